"""Local artifact store: a directory shared by any number of processes.

    <root>/
      .lock                      held while versions and aliases change, for a moment each time
      .staging/<token>/          files being published; the publisher holds a lock on
                                 `<token>.lock` beside it until it ends or dies
      <name>/aliases.json        {"best": "v2"}; `latest` is not stored, it is the highest version
      <name>/index.json          cache of what `find` asks of every version
      <name>/v2/artifact.json    the manifest, with its own digest
      <name>/v2/files/...        the published files

Publishing is atomic: a version appears by one rename, after all of its bytes are on disk, so every
version is complete. Locks are `flock` locks; the root must be on a file system that has them.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hvp.artifacts.staging import (
    copy_tree,
    fsync_directory,
    fsync_tree,
    lock_store,
    staging_directory,
)
from hvp.artifacts.store import (
    LATEST,
    Artifact,
    ArtifactType,
    FileEntry,
    check_alias,
    check_entries,
    check_name,
    check_type,
    is_version,
    parse_reference,
    plain_metadata,
    split_home,
    verify_files,
)
from hvp.artifacts.version_index import Key, read_index, remove_leftovers, update_index
from hvp.errors import ArtifactError
from hvp.files import read_json, settings_digest, write_json
from hvp.os_errors import disk_errors
from hvp.records import parse

_MANIFEST = "artifact.json"


@dataclass(frozen=True)
class _Manifest:
    name: str
    type: ArtifactType
    version: str
    metadata: dict[str, Any]
    inputs: tuple[str, ...]
    files: dict[str, FileEntry]
    created: str


class LocalStore:
    """`ArtifactStore` in a directory; see the module's docstring for its layout.

    Args:
        root: The store's directory; it is made when something is published.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()

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
        """See `ArtifactStore.publish`."""
        check_name(name)
        for alias in aliases:
            check_alias(alias)
        for reference in inputs:
            self._check_input(reference)
        record: dict[str, Any] = {
            "name": name,
            "type": ArtifactType(type),
            "metadata": plain_metadata(metadata, name),
            "inputs": list(inputs),
        }
        with disk_errors(ArtifactError, self.root), staging_directory(self.root) as staging:
            files = copy_tree(source, staging / "files")
            record["files"] = {path: asdict(entry) for path, entry in files.items()}
            with lock_store(self.root):
                version = self._same_as_newest(record)
                if version is None:
                    version = self._commit(staging, record)
                self._move_aliases(name, version, aliases)
        return self._read(name, version)

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """See `ArtifactStore.fetch`."""
        artifact = self._read(*self._resolve(reference))
        check_type(artifact.reference, artifact.type, type)
        verify_files(artifact, f"delete {artifact.path.parent} and publish it again")
        return artifact

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """See `ArtifactStore.find`."""
        check_name(name)
        home, wanted = self.root / name, (str(type), settings_digest)
        versions, index = self._versions(name), read_index(self.root / name)
        unknown = {}
        found = None
        for version in reversed(versions):
            if version not in index:
                unknown[version] = _key(self._read(name, version))
            if index.get(version, unknown.get(version)) == wanted:
                found = self._read(name, version)
                if _key(found) == wanted:
                    break
                found = None  # a version of this number was replaced by hand
        if unknown:
            with suppress(OSError), lock_store(self.root):  # a store may be read-only
                update_index(home, unknown)
        return found

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`."""
        found: dict[str, Artifact] = {}
        queue = [reference]
        for following in queue:
            artifact = self._read(*self._resolve(following))
            if artifact.reference not in found:
                found[artifact.reference] = artifact
                queue.extend(r for r in artifact.inputs if not split_home(r)[0])
        return list(found.values())

    # Reading

    def _names(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(path.name for path in self.root.iterdir() if self._versions(path.name))

    def _versions(self, name: str) -> list[str]:
        """Versions of `name`, oldest first."""
        directory = self.root / name
        if not directory.is_dir():
            return []
        found = [path.name for path in directory.iterdir() if is_version(path.name)]
        return sorted(found, key=lambda version: int(version[1:]))

    def _versions_and_aliases(self, name: str) -> tuple[list[str], dict[str, str]]:
        """Versions, oldest first, and alias to version, `latest` included.

        The aliases are read first: what others publish meanwhile adds versions, and no alias is on
        a version that was not listed.
        """
        aliases = self._stored_aliases(name)
        versions = self._versions(name)
        return versions, {LATEST: versions[-1], **aliases} if versions else aliases

    def _stored_aliases(self, name: str) -> dict[str, str]:
        """Alias to version, without `latest`."""
        path = self.root / name / "aliases.json"
        aliases: dict[str, str] = {}
        if path.exists():
            content = _read_json(path, "delete it and publish again with the aliases you need")
            aliases = {str(alias): str(version) for alias, version in content.items()}
        return aliases

    def _resolve(self, reference: str) -> tuple[str, str]:
        home, rest = split_home(reference)
        if home:
            raise ArtifactError(
                f"artifact {reference!r} is at W&B, and {self.root} is a local store; "
                "use artifacts=wandb, or artifacts=auto with logger=wandb"
            )
        name, selector = parse_reference(rest)
        versions, aliases = self._versions_and_aliases(name)
        if not versions:
            held = ", ".join(self._names()) or "nothing"
            raise ArtifactError(
                f"artifact {reference!r}: {self.root} has no artifact named {name!r}, it holds: "
                f"{held}; run the stage that publishes it or correct the reference"
            )
        version = aliases.get(selector, selector)
        if version not in versions:
            moved = f" ({selector!r} is on the missing {version})" if version != selector else ""
            listed = ", ".join(f"{alias} -> {target}" for alias, target in sorted(aliases.items()))
            raise ArtifactError(
                f"artifact {reference!r}: {self.root} has no such version of {name!r}{moved}, it "
                f"holds the versions {', '.join(versions)} and the aliases {listed}; "
                "give one of these"
            )
        return name, version

    def _read(self, name: str, version: str) -> Artifact:
        """The artifact as its manifest describes it, the manifest verified, the files not."""
        directory = self.root / name / version
        path = directory / _MANIFEST
        remedy = f"delete {directory} and publish it again"
        record = _read_json(path, remedy)
        recorded = record.pop("digest", None)
        found = settings_digest(record)  # bounded by the depth that `read_json` admits
        if recorded != found:
            raise ArtifactError(
                f"{path}: the manifest was changed after it was published (expected digest "
                f"{recorded}, found {found}); {remedy}"
            )
        try:
            manifest = parse(_Manifest, record)
            check_entries(manifest.files)
        except ValueError as error:
            raise ArtifactError(f"{path}: not a manifest ({error}); {remedy}") from error
        if (manifest.name, manifest.version) != (name, version):
            raise ArtifactError(
                f"{path}: expected the manifest of {name}:{version}, found that of "
                f"{manifest.name}:{manifest.version}; move the directory back or delete it"
            )
        _, aliases = self._versions_and_aliases(name)
        return Artifact(
            name=name,
            type=manifest.type,
            version=version,
            aliases=tuple(alias for alias, target in aliases.items() if target == version),
            metadata=manifest.metadata,
            inputs=manifest.inputs,
            files=manifest.files,
            created=manifest.created,
            path=directory / "files",
        )

    def _check_input(self, reference: str) -> None:
        home, rest = split_home(reference)
        if home:  # an artifact at W&B cannot be looked up here
            if not is_version(parse_reference(rest)[1]):
                raise ArtifactError(f"input {reference!r}: lineage must name a version")
            return
        name, version = self._resolve(reference)
        if reference != f"{name}:{version}":
            raise ArtifactError(
                f"input {reference!r}: lineage must name the version that was read, which an alias "
                f"does not; pass the `reference` of the fetched artifact (now {name}:{version})"
            )

    # Publishing

    def _same_as_newest(self, record: Mapping[str, Any]) -> str | None:
        """The newest version, if it equals what `record` describes.

        Older versions do not count, as `latest` must be what was published last.
        """
        versions = self._versions(record["name"])
        if not versions:
            return None
        try:
            newest = self._read(record["name"], versions[-1])
        except ArtifactError:
            return None  # a damaged version must not stop a good one from being published
        same = (
            newest.type == record["type"]
            and list(newest.inputs) == record["inputs"]
            and newest.metadata.get("settings_digest") == record["metadata"].get("settings_digest")
            and {path: asdict(entry) for path, entry in newest.files.items()} == record["files"]
        )
        return newest.version if same else None

    def _commit(self, staging: Path, record: Mapping[str, Any]) -> str:
        """Give the staged files a version and rename them into place (holding the lock)."""
        versions = self._versions(record["name"])
        version = f"v{int(versions[-1][1:]) + 1 if versions else 0}"
        manifest = {
            **record,
            "version": version,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(staging / _MANIFEST, {**manifest, "digest": settings_digest(manifest)})
        fsync_tree(staging)
        home = self.root / record["name"]
        home.mkdir(exist_ok=True)
        remove_leftovers(home)
        update_index(home, {})  # forgets a version of this number that was deleted
        staging.rename(home / version)
        update_index(home, {version: (record["type"], record["metadata"].get("settings_digest"))})
        fsync_directory(home)
        fsync_directory(self.root)
        return version

    def _move_aliases(self, name: str, version: str, aliases: Sequence[str]) -> None:
        """Move `aliases` to `version` (holding the lock)."""
        moved = {alias: version for alias in aliases if alias != LATEST}
        if not moved:
            return
        kept = self._stored_aliases(name)
        write_json(self.root / name / "aliases.json", {**kept, **moved})


def _key(artifact: Artifact) -> Key:
    return str(artifact.type), artifact.metadata.get("settings_digest")


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    # Metrics in metadata may be infinite: the PSNR of equal frames is.
    content = read_json(path, ArtifactError, remedy, finite=False)
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: expected a JSON object, found {content!r:.50}; {remedy}")
    return content
