"""Record of an output directory's W&B run, and the upload of its logs that the server lacks.

<output_dir>/wandb/run.json          the run's id and its segments
<output_dir>/wandb/run.lock          held by the process that logs to the run
<output_dir>/wandb/run-*, offline-*  a segment: the log of one process, in W&B's format
<output_dir>/wandb/outbox/           the upload queue (hvp/artifacts/wandb/queue.py)
"""

import http.client
import netrc
import os
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from hvp.errors import ArtifactError
from hvp.files import read_json, write_json

_PROBE_SECONDS = 5.0

State = Literal["open", "sent", "offline", "unfinished"]


@dataclass
class Segment:
    """Log of one process to the run."""

    dir: str
    """W&B's directory, relative to the output directory."""
    first: int
    """The run's step when the process began."""
    state: State
    """`open` while the process lives, and for ever if it was killed; `sent` or `offline` when it
    ended; `unfinished` where uploading the rest timed out."""
    steps: int | None = None
    """Steps logged; None where the process was killed."""


@dataclass
class RunRecord:
    """The W&B run of an output directory."""

    output_dir: Path
    base_url: str
    entity: str | None
    project: str
    id: str
    segments: list[Segment] = field(default_factory=list)

    @classmethod
    def of(cls, output_dir: Path, base_url: str, entity: str | None, project: str) -> "RunRecord":
        """The record in a directory; a new one, with a new id, where there is none."""
        output_dir = output_dir.resolve()
        if (output_dir / "wandb" / "run.json").exists():
            record = cls.read(output_dir)
            if (record.base_url, record.project) == (base_url, project):
                return record
        record = cls(output_dir, base_url, entity, project, secrets.token_hex(4))
        record.write()
        return record

    @classmethod
    def read(cls, output_dir: Path) -> "RunRecord":
        """The record in a directory.

        Raises:
            ArtifactError: there is none, or it cannot be read.
        """
        output_dir = output_dir.resolve()
        path = output_dir / "wandb" / "run.json"
        if not path.exists():
            raise ArtifactError(
                f"{path}: no W&B run was made in this directory; give the output directory of a "
                "run with logger=wandb"
            )
        content = read_json(path, ArtifactError, "delete it")
        try:
            segments = [Segment(**segment) for segment in content.pop("segments")]
            return cls(output_dir, segments=segments, **content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(
                f"{path}: not the record of a run ({error!r:.200}); delete it"
            ) from error

    def write(self) -> None:
        """Write run.json, atomically."""
        content = asdict(self)
        del content["output_dir"]
        write_json(self.output_dir / "wandb" / "run.json", content)

    def lock(self) -> None:
        """Lock the run against other processes until `unlock`, or until this object is gone.

        Raises:
            ArtifactError: another process holds the lock.
        """
        self._lock = FileLock(self.output_dir / "wandb" / "run.lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise ArtifactError(
                f"{self.output_dir}: another process is logging to the W&B run of this directory; "
                "wait for its end"
            ) from None

    def begin(self, directory: Path, step: int) -> None:
        """Begin a segment: this process logs to the run, into W&B's `directory`."""
        relative = directory.resolve().relative_to(self.output_dir).as_posix()
        self.segments.append(Segment(relative, step, "open"))
        self.write()

    def end(self, state: State, step: int) -> None:
        """End the last segment and unlock the run."""
        segment = self.segments[-1]
        segment.state, segment.steps = state, step - segment.first
        self.write()
        self.unlock()

    def unlock(self) -> None:
        """Release the lock of the run."""
        self._lock.release()

    def unsent(self) -> list[Segment]:
        """Segments that the server has not received in full, in their order.

        A segment killed while online is left out when others follow it: the training resumed from
        a checkpoint and logged the lost steps again.
        """
        return [
            segment
            for segment in self.segments
            if segment.state in ("offline", "unfinished")
            or (segment.state == "open" and "/offline-run-" in segment.dir)
            or (segment.state == "open" and len(self.segments) == 1)
        ]


def upload_segments(record: RunRecord, patience: float) -> bool:
    """Run `wandb sync` for every unsent segment, at most `patience` seconds each.

    Returns:
        Whether all commands succeeded. That alone does not prove that everything arrived; see
        hvp/artifacts/sync.py.
    """
    for segment in record.unsent():
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", "--include-synced"]
        try:
            status = subprocess.run(
                [*command, str(record.output_dir / segment.dir)],
                capture_output=True,
                timeout=patience,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return False
        if status:
            return False
        segment.state = "sent"
        record.write()
    return True


def is_reachable(base_url: str, patience: float) -> bool:
    """Health check: whether the server answers within seconds, and not with an error of its own."""
    seconds = min(_PROBE_SECONDS, patience)
    try:
        with urllib.request.urlopen(f"{base_url.rstrip('/')}/healthz", timeout=seconds):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except (OSError, ValueError, http.client.HTTPException):
        return False


def has_api_key(base_url: str) -> bool:
    """Whether W&B will find credentials for that server without prompting."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        return netrc.netrc(path).authenticators(urlsplit(base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
