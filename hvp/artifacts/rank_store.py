"""One store for all ranks of a job: rank zero asks the real one, the others get its answers.

    <folder>/<launch>/<question>-<n>.json    what rank zero got when it asked this the n-th time

Ranks that asked a server themselves could be told different things, as it may go away between two
of them; then one goes on to train while another has found its work done, and they wait for each
other in vain. Artifacts are looked up before torch's process group exists, so the answers are
files in the output directory, which all ranks share.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvp import errors
from hvp.artifacts.store import (
    Artifact,
    ArtifactStore,
    ArtifactType,
    artifact_from_json,
    artifact_to_json,
)
from hvp.errors import ArtifactError, HVPError
from hvp.files import settings_digest, write_json
from hvp.log import rank

_PATIENCE = 1800.0  # seconds; that of torch's process group
_LOOK_SECONDS = 0.05

_asked: dict[Path, int] = {}  # how often this process has asked each question


class RankStore:
    """An `ArtifactStore` that gives all ranks the same answers; see the module's docstring.

    Every rank asks the same in the same order; what only rank zero does (publishing, mostly) may
    stand anywhere in between. Where rank zero fails, the others fail with its message.

    Args:
        store: the real one; only rank zero uses it.
        folder: a directory that all ranks see.
        patience: seconds to wait for an answer of rank zero.
    """

    def __init__(self, store: ArtifactStore, folder: Path, patience: float = _PATIENCE) -> None:
        self.store = store
        self.folder = folder.resolve() / _launch()
        self.patience = patience

    def publish(
        self,
        source: Path,
        *,
        name: str,
        type: ArtifactType,
        metadata: Mapping[str, Any],
        inputs: Sequence[str] = (),
        aliases: Sequence[str] = (),
    ) -> Artifact:
        """See `ArtifactStore.publish`; on other ranks than zero `source` is not read."""

        def publish() -> list[Artifact]:
            published = self.store.publish(
                source, name=name, type=type, metadata=metadata, inputs=inputs, aliases=aliases
            )
            return [published]

        return self._agreed(("publish", name, type, metadata.get("settings_digest")), publish)[0]

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """See `ArtifactStore.fetch`; rank zero verifies, the others see that the files are there.

        Raises:
            ArtifactError: this rank does not see the files.
        """
        question = ("fetch", reference, type)
        (artifact,) = self._agreed(question, lambda: [self.store.fetch(reference, type)])
        for relative, entry in artifact.files.items():
            path = artifact.path / relative
            if not path.is_file() or path.stat().st_size != entry.size:
                raise ArtifactError(
                    f"{path}: rank zero has this file of {artifact.reference}, rank {rank()} does "
                    "not see it; put work_dir on a file system that all ranks share"
                )
        return artifact

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """See `ArtifactStore.find`."""

        def find() -> list[Artifact]:
            found = self.store.find(name, type, settings_digest)
            return [] if found is None else [found]

        return next(iter(self._agreed(("find", name, type, settings_digest), find)), None)

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`."""
        return self._agreed(("lineage", reference), lambda: self.store.lineage(reference))

    def _agreed(
        self, question: tuple[str | None, ...], ask: Callable[[], list[Artifact]]
    ) -> list[Artifact]:
        """What `ask` gives on rank zero."""
        stem = self.folder / f"{question[0]}-{settings_digest(question)[:16]}"
        count = _asked[stem] = _asked.get(stem, 0) + 1
        path = stem.with_name(f"{stem.name}-{count}.json")
        if rank() != 0:
            return self._heard(path, question)
        try:
            found = ask()
        except Exception as error:  # whatever it is, the others must not wait for an answer
            kind = type(error).__name__ if isinstance(error, HVPError) else HVPError.__name__
            write_json(path, {"error": kind, "message": str(error) or repr(error)})
            raise
        write_json(path, {"found": [artifact_to_json(artifact) for artifact in found]})
        return found

    def _heard(self, path: Path, question: tuple[str | None, ...]) -> list[Artifact]:
        deadline = time.monotonic() + self.patience
        # Listing asks a network file system anew, where `exists` may remember an earlier no.
        while not (path.parent.is_dir() and path in path.parent.iterdir()):
            if time.monotonic() > deadline:
                asked = " ".join(str(part) for part in question if part is not None)
                raise ArtifactError(
                    f"{asked}: rank zero has not answered rank {rank()} within {self.patience:g} s "
                    f"({path}); see the output of rank zero"
                )
            time.sleep(_LOOK_SECONDS)
        answer = json.loads(path.read_text(encoding="utf-8"))
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return [artifact_from_json(record) for record in answer["found"]]


def _launch() -> str:
    """A name that the ranks of one launch share, and that no earlier launch had."""
    names: tuple[str, ...] = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    return "-".join(os.environ.get(name, "0") for name in names)
