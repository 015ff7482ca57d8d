"""Artifact and the protocol of artifact stores; references, versions, aliases, verification.

A reference names one artifact: `structure-kitti` or `structure-kitti:latest` (the newest version),
`structure-kitti:v3` (exactly that one) or `structure-kitti:best` (the version that alias is on).
An artifact at W&B may have its home before the name: `entity/project/structure-kitti:v3`.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from hvp.errors import ArtifactError
from hvp.files import check_inner_path, check_sha256, file_digest, inner_file
from hvp.records import parse

LATEST = "latest"
"""Alias of the newest version; it moves by itself."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_VERSION = re.compile(r"v(0|[1-9][0-9]*)")


class ArtifactType(StrEnum):
    """Kind of an artifact's files."""

    DATASET = "dataset"
    CHECKPOINT = "checkpoint"
    PREDICTIONS = "predictions"
    VIDEOS = "videos"
    EVALUATION = "evaluation"


@dataclass(frozen=True)
class FileEntry:
    """Manifest entry of one file."""

    sha256: str
    """SHA-256 of the file's bytes, in hex."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Artifact:
    """One immutable version of a named set of files."""

    name: str
    """Name shared by all versions, for example `structure-kitti`."""
    type: ArtifactType
    version: str
    """`v0`, `v1`, ... in the order of publishing."""
    aliases: tuple[str, ...]
    """Aliases of this version when it was looked up, `latest` among them."""
    metadata: dict[str, Any]
    """Plain JSON values; `settings_digest` is what `ArtifactStore.find` looks for."""
    inputs: tuple[str, ...]
    """References (`name:v3`) of the artifacts this one was made from."""
    files: Mapping[str, FileEntry]
    """Manifest: path relative to `path` (with `/`) to digest and size."""
    created: str
    """UTC time of publishing, ISO 8601."""
    path: Path
    """Directory with the files. Read only by convention: copy what is to be changed."""
    home: str = ""
    """`entity/project/` of an artifact at W&B; empty for a local one."""

    @property
    def reference(self) -> str:
        """Reference of exactly this version."""
        return f"{self.home}{self.name}:{self.version}"


class ArtifactStore(Protocol):
    """Artifact store: publish, fetch, find by settings, lineage."""

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
        """Publish a copy of the directory `source` as the newest version of `name`.

        Idempotent: where the newest version has the same type, files, inputs and
        `metadata["settings_digest"]`, no new version is made; that one is returned, and `aliases`
        move to it.

        Args:
            source: Directory whose files are stored, subdirectories included.
            name: Letters, digits, `.`, `_` and `-`.
            type: Kind of the files.
            metadata: JSON values about how the files were made.
            inputs: The `Artifact.reference` of everything the files were made from.
            aliases: Names to move to this version (`latest` moves by itself).

        Raises:
            ArtifactError: a malformed name, alias or metadata, an empty source, unknown inputs.
        """
        ...

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """Fetch the artifact a reference names, every byte verified.

        Raises:
            ArtifactError: no such artifact, not of `type`, or files that differ from those
                published.
        """
        ...

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """The newest version of `name` with that type and `metadata["settings_digest"]`, if any.

        Its files are not verified: `fetch` its reference before reading them.
        """
        ...

    def lineage(self, reference: str) -> list[Artifact]:
        """Lineage: the artifact and its ancestors, nearest first, each once.

        `Artifact.inputs` are the edges of that graph. Files are not verified.
        """
        ...


def artifact_to_json(artifact: Artifact) -> dict[str, Any]:
    """JSON form of an artifact, for `artifact_from_json`."""
    return asdict(artifact) | {"path": str(artifact.path)}


def artifact_from_json(record: Mapping[str, Any]) -> Artifact:
    """Artifact from its JSON form.

    Raises:
        ValueError: it is not one that `artifact_to_json` makes.
    """
    artifact = parse(Artifact, dict(record))
    check_entries(artifact.files)
    return artifact


def is_version(selector: str) -> bool:
    """Whether a selector is a version (`v3`) and not an alias."""
    return _VERSION.fullmatch(selector) is not None


def check_name(name: str, what: str = "artifact name") -> None:
    """Raise `ArtifactError` unless `name` is made of letters, digits, `.`, `_` and `-`."""
    if not _NAME.fullmatch(name):
        raise ArtifactError(
            f"{what} {name!r}: expected letters, digits, '.', '_' and '-', "
            "the first one neither '.' nor '-'"
        )


def check_alias(alias: str) -> None:
    """Raise `ArtifactError` unless `alias` is a name that cannot be taken for a version."""
    check_name(alias, "alias")
    if is_version(alias):
        raise ArtifactError(
            f"alias {alias!r}: looks like a version; versions are numbered by the store, "
            "choose another word"
        )


def split_home(reference: str) -> tuple[str, str]:
    """`entity/project/name:v3` to `entity/project/` and `name:v3`; a local one has no home.

    Raises:
        ArtifactError: there is something else than entity and project before the name.
    """
    *home, rest = reference.split("/")
    if len(home) not in (0, 2) or not all(home):
        raise ArtifactError(
            f"artifact reference {reference!r}: expected name:version or "
            "entity/project/name:version"
        )
    return "".join(f"{part}/" for part in home), rest


def parse_reference(reference: str) -> tuple[str, str]:
    """`name:selector` to its two parts; a missing selector is `latest`.

    Raises:
        ArtifactError: either part is malformed.
    """
    name, colon, selector = reference.partition(":")
    check_name(name, f"artifact reference {reference!r}, name")
    if not colon:
        return name, LATEST
    check_name(selector, f"artifact reference {reference!r}, version or alias")
    return name, selector


def plain_metadata(metadata: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Metadata as plain JSON values, exactly as they will be read back.

    Raises:
        ArtifactError: it is not JSON.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(metadata)))
    except (TypeError, ValueError) as error:
        raise ArtifactError(
            f"metadata of artifact {name!r}: not JSON ({error}); give dicts, lists, strings and "
            "numbers only"
        ) from error
    return plain


def list_files(source: Path) -> list[Path]:
    """All files below `source`, sorted.

    Raises:
        ArtifactError: `source` is not a directory, holds no file, or holds a FIFO, a device or a
            symbolic link that leads out of it or to a directory.
    """
    if not source.is_dir():
        raise ArtifactError(f"{source}: expected a directory of files to publish, found none")
    within, files = source.resolve(), []
    for folder, folders, names in os.walk(source):
        for path in (Path(folder, name) for name in (*folders, *names)):
            is_link, is_file = path.is_symlink(), path.is_file()
            if is_file and (not is_link or path.resolve().is_relative_to(within)):
                files.append(path)
            elif is_link or path.name in names:
                what = "a symbolic link out of it, or to no file" if is_link else "no regular file"
                raise ArtifactError(
                    f"{path}: {what}; an artifact is made of the files in {source}, put a copy "
                    "there or take it out"
                )
    files.sort()
    if not files:
        raise ArtifactError(f"{source}: no files to publish; an artifact holds at least one file")
    return files


def check_type(reference: str, found: str, expected: ArtifactType | None) -> None:
    """Raise `ArtifactError` unless the artifact is of the expected type; None expects nothing."""
    if expected is not None and found != expected:
        raise ArtifactError(
            f"artifact {reference!r} is of type {str(found)!r}, expected "
            f"{ArtifactType(expected).value!r}; give a reference of that type"
        )


def check_entries(files: Mapping[str, FileEntry]) -> None:
    """Check the files that a manifest names, before any of them is looked at.

    Raises:
        ValueError: a path that leaves its folder, a digest or a size that is none.
    """
    for path, entry in files.items():
        check_inner_path(path)
        check_sha256(entry.sha256)
        if entry.size < 0:
            raise ValueError(f"{path}: a size of {entry.size} bytes")


def verify_files(artifact: Artifact, remedy: str) -> None:
    """Raise `ArtifactError`, ending in `remedy`, unless every file is what the manifest says."""
    for relative, entry in artifact.files.items():
        path = artifact.path / relative
        try:
            size = inner_file(artifact.path, relative).stat().st_size
        except FileNotFoundError:
            size, found = -1, "no such file"
        except (OSError, ValueError) as error:
            size, found = -1, str(getattr(error, "strerror", None) or error)
        if size < 0:
            pass
        elif size != entry.size:
            found = f"{size} bytes"
        elif (digest := file_digest(path)) != entry.sha256:
            found = f"sha256 {digest}"
        else:
            continue
        raise ArtifactError(
            f"{path}: damaged file of artifact {artifact.reference!r}: expected {entry.size} bytes "
            f"with sha256 {entry.sha256}, found {found}; {remedy}"
        )
