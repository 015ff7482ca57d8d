"""Local cache of W&B artifacts, read while the server is down.

    <root>/<entity>/<project>/<name>/<version>/       the files
    <root>/<entity>/<project>/<name>/<version>.json   the artifact as it was when it was cached

It holds what this machine has published or fetched.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvp.artifacts.store import (
    LATEST,
    Artifact,
    ArtifactType,
    artifact_from_json,
    artifact_to_json,
    check_type,
    is_version,
    parse_reference,
    split_home,
    verify_files,
)
from hvp.errors import ArtifactError
from hvp.files import atomic_path, read_json, unfinished, write_json
from hvp.records import parse


def add_to_cache(artifact: Artifact, source: Path | None = None) -> None:
    """Record that the cache holds `artifact`; with `source`, copy its files there first.

    Called with the version's lock, so unfinished copies are those of killed processes.
    """
    published = {artifact.path / relative for relative in artifact.files}
    leftovers = {
        *unfinished(artifact.path),
        *unfinished(artifact.path.parent, f".{artifact.version}.*.tmp.json"),
    }
    for leftover in leftovers - published:
        leftover.unlink()
    for relative in artifact.files if source is not None else ():
        assert source is not None
        with atomic_path(artifact.path / relative) as temporary:
            shutil.copyfile(source / relative, temporary)
    write_json(_record(artifact.path), artifact_to_json(artifact))


def is_complete(artifact: Artifact) -> bool:
    """Whether the cache holds all files undamaged."""
    try:
        verify_files(artifact, "")
    except ArtifactError:
        return False
    return True


class WandbCache:
    """Reading half of an `ArtifactStore` on the cache.

    Args:
        root: directory of the cache, which `WandbStore` fills.
        entity: whose artifacts names without `entity/project/` mean; None for anybody's.
        project: likewise.
    """

    def __init__(self, root: str | Path, entity: str | None, project: str) -> None:
        self.root = Path(root).resolve()
        self.home = f"{entity or '*'}/{project}/"

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """See `ArtifactStore.fetch`."""
        artifact = self._resolve(reference)
        check_type(artifact.reference, artifact.type, type)
        verify_files(artifact, "it was changed here; fetch it again when W&B answers")
        return artifact

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """See `ArtifactStore.find`."""
        for artifact in self._newest_first(self.home, name):
            if artifact.type == type and artifact.metadata.get("settings_digest") == (
                settings_digest
            ):
                return artifact
        return None

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`; leaves out ancestors that are not in the cache."""
        found = {artifact.reference: artifact for artifact in [self._resolve(reference)]}
        queue = list(found.values())
        for artifact in queue:
            for made_from in artifact.inputs:
                try:
                    following = self._resolve(made_from, artifact.home)
                except ArtifactError:
                    continue
                if following.reference not in found:
                    found[following.reference] = following
                    queue.append(following)
        return queue

    def _resolve(self, reference: str, home: str = "") -> Artifact:
        where, rest = split_home(reference)
        name, selector = parse_reference(rest)
        for artifact in self._newest_first(where or home or self.home, name):
            if selector in (LATEST, artifact.version, *artifact.aliases):
                return artifact
        raise ArtifactError(
            f"artifact {reference!r} is at W&B, which this run does not reach, and no copy lies in "
            f"{self.root}; add logger=wandb (and wandb.mode=online), or use artifacts=wandb"
        )

    def _newest_first(self, home: str, name: str) -> Iterator[Artifact]:
        records = [p for p in self.root.glob(f"{home}{name}/v*.json") if is_version(p.stem)]
        for path in sorted(records, key=lambda path: -int(path.stem[1:])):
            remedy = "delete it, the artifact is fetched again when W&B answers"
            # Metrics in metadata may be infinite.
            record = read_json(path, ArtifactError, remedy, finite=False)
            try:
                content = parse(dict[str, Any], record)
                artifact = artifact_from_json(content | {"path": str(path.with_suffix(""))})
            except ValueError as error:
                raise ArtifactError(
                    f"{path}: damaged record of a cached artifact ({error!s:.300}); {remedy}"
                ) from error
            yield artifact


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
