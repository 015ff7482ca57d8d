"""Artifact store of a job with several ranks: rank zero asks the real store and shares its answers.

    <folder>/<launch>/<call>-<n>.json    result of the n-th call with the same arguments

Ranks that asked a server one by one could get different answers, as it may go down between two of
them: one rank would train while another finds the work done, and both would wait for each other
for ever. Artifacts are looked up before torch's process group exists, so answers are broadcast
through files in the output directory, which all ranks share.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from hvp.files import read_json, settings_digest, write_json
from hvp.log import rank
from hvp.records import parse

_TIMEOUT = 1800.0  # seconds; that of torch's process group
_LOOK_SECONDS = 0.05

_ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, HVPError)
}

_counts: dict[Path, int] = {}  # calls of this process so far, by call and arguments


@dataclass(frozen=True)
class _Answer:
    found: tuple[dict[str, Any], ...] = ()
    error: str | None = None
    message: str = ""


class RankStore:
    """`ArtifactStore` that gives all ranks the same answers; see the module's docstring.

    All ranks make the same calls in the same order; calls of rank zero alone (publishing, mostly)
    may come anywhere in between. An error of rank zero is raised on the other ranks too.

    Args:
        store: the real store; only rank zero uses it.
        folder: a directory that all ranks see.
        timeout: seconds to wait for an answer of rank zero.
    """

    def __init__(self, store: ArtifactStore, folder: Path, timeout: float = _TIMEOUT) -> None:
        self.store = store
        self.folder = folder.resolve() / _launch()
        self.timeout = timeout

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

        return self._broadcast(("publish", name, type, metadata.get("settings_digest")), publish)[0]

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """See `ArtifactStore.fetch`; rank zero verifies, the others check that the files exist.

        Raises:
            ArtifactError: this rank does not see the files.
        """
        arguments = ("fetch", reference, type)
        (artifact,) = self._broadcast(arguments, lambda: [self.store.fetch(reference, type)])
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

        return next(iter(self._broadcast(("find", name, type, settings_digest), find)), None)

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`."""
        return self._broadcast(("lineage", reference), lambda: self.store.lineage(reference))

    def _broadcast(
        self, arguments: tuple[str | None, ...], call: Callable[[], list[Artifact]]
    ) -> list[Artifact]:
        """Result of `call` on rank zero; `arguments`, name first, tell calls apart."""
        stem = self.folder / f"{arguments[0]}-{settings_digest(arguments)[:16]}"
        count = _counts[stem] = _counts.get(stem, 0) + 1
        path = stem.with_name(f"{stem.name}-{count}.json")
        if rank() != 0:
            return self._receive(path, arguments)
        try:
            found = call()
        except Exception as error:  # whatever it is, the other ranks must not wait for an answer
            kind = type(error).__name__ if isinstance(error, HVPError) else HVPError.__name__
            write_json(path, {"error": kind, "message": str(error) or repr(error)})
            raise
        write_json(path, {"found": [artifact_to_json(artifact) for artifact in found]})
        return found

    def _receive(self, path: Path, arguments: tuple[str | None, ...]) -> list[Artifact]:
        """Wait for the answer of rank zero."""
        deadline = time.monotonic() + self.timeout
        # A network file system may answer `exists` from its cache; listing is always current.
        while not (path.parent.is_dir() and path in path.parent.iterdir()):
            if time.monotonic() > deadline:
                asked = " ".join(str(part) for part in arguments if part is not None)
                raise ArtifactError(
                    f"{asked}: rank zero has not answered rank {rank()} within {self.timeout:g} s "
                    f"({path}); see the output of rank zero"
                )
            time.sleep(_LOOK_SECONDS)
        remedy = "rank zero did not write that; start the job again"
        content = read_json(path, ArtifactError, remedy, finite=False)
        try:
            answer = parse(_Answer, content)
            found = [artifact_from_json(record) for record in answer.found]
        except ValueError as error:
            raise ArtifactError(f"{path}: not an answer ({error}); {remedy}") from error
        if answer.error is not None:
            raise _ERRORS.get(answer.error, HVPError)(answer.message)
        return found


def _launch() -> str:
    """Name shared by the ranks of one launch and different from that of earlier launches."""
    names: tuple[str, ...] = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
    return "-".join(os.environ.get(name, "0") for name in names)
