"""Clip sets: one file per clip and an index written last; base of prediction and video sets.

    <directory>/plan.json      while the set is being made: the index but for the digests
    <directory>/index.json     once it is complete: header, and per file its clip and sha256
    <directory>/clips/...      the files

Writing is resumable: files appear one by one, each complete, and a writer opened again on the same
directory continues. Several processes may write different clips of one set; one of them closes it.
"""

import hashlib
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from hvp.clips import ClipId
from hvp.errors import ArtifactError
from hvp.files import file_digest, write_json
from hvp.log import rank

FORMAT_VERSION = 1


@dataclass(frozen=True)
class ClipFile(ABC):
    """One file of a clip set and the frames it covers."""

    clip: ClipId
    """The clip it shows; several files may show the same one."""
    context: int
    """True frames at the beginning."""
    horizon: int
    """Predicted frames after them; the recording may end before."""

    @property
    def id(self) -> str:
        """The clip's id as text: `<recording>@<first>+<step>`."""
        return str(self.clip)

    @property
    def length(self) -> int:
        """Frames T = context + horizon."""
        return self.context + self.horizon

    @property
    @abstractmethod
    def file(self) -> str:
        """Path within the set, unique in it."""

    @property
    def stem(self) -> str:
        """File name without suffix: readable, safe on any file system, unique by a digest."""
        readable = re.sub(r"[^A-Za-z0-9-]+", "_", self.clip.recording).strip("_")[-80:]
        unique = hashlib.sha256(self.id.encode()).hexdigest()[:12]
        return f"{readable}-{self.clip.first:06d}-{unique}"

    def to_json(self) -> dict[str, Any]:
        """Record of the file in `index.json`, without sha256; the clip's fields lie flat."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        clip: ClipId = own.pop("clip")
        return {"id": self.id, "file": self.file, **clip._asdict(), **own}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """The file that a record of `index.json` describes."""
        own = {field.name: record[field.name] for field in fields(cls) if field.name != "clip"}
        return cls(clip=ClipId(*(record[name] for name in ClipId._fields)), **own)


@dataclass(frozen=True)
class Header(ABC):
    """Metadata shared by all files of a set. Equal settings make equal headers."""

    @classmethod
    @abstractmethod
    def from_json(cls, record: dict[str, Any]) -> "Header":
        """The header from its JSON form (the fields, tuples as lists)."""


H = TypeVar("H", bound=Header)
F = TypeVar("F", bound=ClipFile)


class ClipSetWriter(Generic[H, F]):
    """Writer of a clip set; resumes the one that was begun in the directory.

    Args:
        directory: Where the set is made.
        header: Metadata shared by all its files.
        clips: Every file the set will hold, in the order of the index.
        anew: Remove what lies there and begin again. Rank zero does; the others must not write
            before it has come this far.

    Raises:
        ArtifactError: the directory holds a set with another header or other clips.
    """

    format: ClassVar[str]

    def __init__(self, directory: Path, header: H, clips: Sequence[F], anew: bool = False) -> None:
        self.directory, self.header, self.clips = directory, header, list(clips)
        self._index, self._plan = directory / "index.json", directory / "plan.json"
        if len({clip.file for clip in self.clips}) < len(self.clips):
            raise ArtifactError(f"{directory}: a clip is listed twice; give each clip once")
        plan = {
            "format": self.format,
            "version": FORMAT_VERSION,
            "header": json.loads(json.dumps(asdict(header))),
            "clips": [clip.to_json() for clip in self.clips],
        }
        if anew:
            if rank() != 0:
                return
            shutil.rmtree(directory, ignore_errors=True)
        for path in (self._index, self._plan):
            if path.exists():
                _check_same_plan(path, plan)
        if not (self._index.exists() and all(map(self.done, self.clips))):
            write_json(self._plan, plan)
            self._index.unlink(missing_ok=True)

    def path(self, clip: F) -> Path:
        """Where the file of a clip goes."""
        return self.directory / clip.file

    def done(self, clip: F) -> bool:
        """Whether the file of a clip has been written, now or by an earlier process."""
        return self.path(clip).exists()

    def close(self) -> None:
        """Write the index, which makes the set complete: it can be read and published.

        Raises:
            ArtifactError: clips are still missing.
        """
        missing = [clip.id for clip in self.clips if not self.done(clip)]
        if missing:
            raise ArtifactError(
                f"{self.directory}: {len(missing)} of {len(self.clips)} files are not written, "
                f"first that of clip {missing[0]}; run the same command again to make them"
            )
        if not self._index.exists():
            index = json.loads(self._plan.read_text(encoding="utf-8"))
            for record in index["clips"]:
                record["sha256"] = file_digest(self.directory / record["file"])
            write_json(self._index, index)
        self._plan.unlink(missing_ok=True)
        for leftover in (self.directory / "clips").glob(".*.tmp.*"):  # of writers that were killed
            leftover.unlink()


class ClipSet(Generic[H, F]):
    """Reader of a complete clip set; files are opened lazily and verified by SHA-256.

    Args:
        directory: Where the set lies, for example the `path` of a fetched artifact.

    Raises:
        ArtifactError: there is no complete set of this format.
    """

    format: ClassVar[str]
    header_type: ClassVar[type[Header]]
    file_type: ClassVar[type[ClipFile]]

    header: H
    """Metadata shared by all files."""
    clips: list[F]
    """The files of the set, in order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / "index.json"
        if not path.exists():
            begun = " (one was begun: plan.json)" if (directory / "plan.json").exists() else ""
            raise ArtifactError(
                f"{path}: no such file, so there is no complete set of {self.format} here{begun}; "
                "run the stage that makes it, or correct the path"
            )
        index = _read_index(path, self.format)
        try:
            self.header = self.header_type.from_json(index["header"])  # type: ignore[assignment]
            self._records = {self.file_type.from_json(r): r for r in index["clips"]}
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{path}: not an index of {self.format} ({error!r}); make the set again"
            ) from error
        self.clips = list(self._records)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.clips)

    def path(self, clip: F) -> Path:
        """The file of a clip, its digest verified.

        Raises:
            ArtifactError: the clip is not of this set, or its file is missing or damaged.
        """
        record = self._records.get(clip)
        if record is None:
            raise ArtifactError(f"{self.directory}: no clip {clip.id} in this set of {self.format}")
        path = self.directory / record["file"]
        found = file_digest(path) if path.is_file() else "no such file"
        if found != record["sha256"]:
            raise ArtifactError(
                f"{path}: damaged file of clip {clip.id}: expected sha256 {record['sha256']}, "
                f"found {found}; fetch the artifact again or delete the file and run its stage"
            )
        return path


def _read_index(path: Path, expected_format: str) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = (index["format"], index["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: not readable ({error!r}); make the set again") from error
    if found != (expected_format, FORMAT_VERSION):
        raise ArtifactError(
            f"{path}: expected format {expected_format!r} version {FORMAT_VERSION}, found "
            f"{found[0]!r} version {found[1]}; give the directory of a set of {expected_format}"
        )
    return index


def _check_same_plan(path: Path, plan: dict[str, Any]) -> None:
    """Raise `ArtifactError` unless the set that `path` describes is the planned one."""
    begun = _read_index(path, plan["format"])
    remedy = f"choose another directory or delete {path.parent}"
    for key, expected in plan["header"].items():
        if (found := begun["header"].get(key)) != expected:
            raise ArtifactError(
                f"{path}: this set is made with {key} {found!r:.80}, expected {expected!r:.80}; "
                f"{remedy}"
            )
    clips = [
        {key: value for key, value in clip.items() if key != "sha256"} for clip in begun["clips"]
    ]
    if clips != plan["clips"]:
        raise ArtifactError(
            f"{path}: this set has other clips than those asked for ({len(clips)} there, "
            f"{len(plan['clips'])} asked for); {remedy}"
        )
