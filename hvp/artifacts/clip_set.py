"""Clip sets: one file per clip and an index written last; base of prediction and video sets.

    <directory>/plan.json              while the set is being made: the index but for the digests
    <directory>/written-<rank>.jsonl   likewise: the digest of each file, once it is written
    <directory>/index.json             once it is complete: header, and per file its clip and sha256
    <directory>/clips/...              the files

Writing is resumable: files appear one by one, each complete, and a writer opened again on the same
directory continues. A file that is not what was written, or whose digest was never recorded, is
made again. Several processes may write different clips of one set; one of them closes it.
"""

import errno
import hashlib
import json
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from hvp.artifacts.clip_journal import ClipJournal
from hvp.clips import ClipId
from hvp.errors import ArtifactError, DataError
from hvp.files import check_sha256, file_digest, inner_file, read_json, write_json
from hvp.log import rank, say
from hvp.records import parse

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
        """The file that a record of `index.json` describes, without sha256.

        Raises:
            ValueError: the record is not one that `to_json` makes.
        """
        own = {key: value for key, value in record.items() if key not in ("id", "file")}
        own["clip"] = {name: own.pop(name, None) for name in ClipId._fields}
        clip = parse(cls, own)
        numbers = [value for value in vars(clip).values() if isinstance(value, int)]
        if min(*numbers, clip.clip.first, clip.clip.step - 1, clip.length - 1) < 0:
            raise ValueError(f"clip {clip.id:.80}: a negative number of frames")
        if (record.get("id"), record.get("file")) != (clip.id, clip.file):
            raise ValueError(f"clip {clip.id:.80}: id or file is not that of its clip")
        return clip


@dataclass(frozen=True)
class Header:
    """Metadata shared by all files of a set. Equal settings make equal headers."""

    size: tuple[int, int]
    """Height and width of the frames."""


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
        self._content = {
            "format": self.format,
            "version": FORMAT_VERSION,
            "header": json.loads(json.dumps(asdict(header))),
            "clips": [clip.to_json() for clip in self.clips],
        }
        self._journal = ClipJournal(directory)
        self._recorded: dict[str, set[str]] = {}  # digests that files may have
        self._digests: dict[str, str] = {}  # of the files found whole
        self._damaged: set[str] = set()
        self._has_said = False
        if anew:
            if rank() != 0:
                return
            shutil.rmtree(directory, ignore_errors=True)
        for path in (self._index, self._plan):
            if path.exists():
                self._check_same_plan(path)
        self._read_journal()
        if not self._index.exists():
            write_json(self._plan, self._content)

    def path(self, clip: F) -> Path:
        """Where the file of a clip goes."""
        return self.directory / clip.file

    def done(self, clip: F) -> bool:
        """Whether the file of a clip has been written, now or earlier, and is still the same.

        Each file is read once per process.
        """
        if clip.file not in self._digests and clip.file not in self._damaged:
            self._verify(clip)
        return clip.file in self._digests

    def record(self, clip: F) -> None:
        """Record that the file of a clip has been written; called when it is complete."""
        digest = file_digest(self.path(clip))
        self._journal.add(clip.file, digest)
        self._recorded.setdefault(clip.file, set()).add(digest)
        self._digests[clip.file] = digest
        self._damaged.discard(clip.file)

    def close(self) -> None:
        """Write the index, which makes the set complete: it can be read and published.

        Raises:
            ArtifactError: clips are still missing.
        """
        self._read_journal()  # other processes have written, too
        missing = [clip.id for clip in self.clips if not self.done(clip)]
        if missing:
            raise ArtifactError(
                f"{self.directory}: {len(missing)} of {len(self.clips)} files are not written, "
                f"first that of clip {missing[0]}; run the same command again to make them"
            )
        records = [clip.to_json() | {"sha256": self._digests[clip.file]} for clip in self.clips]
        write_json(self._index, self._content | {"clips": records})
        self._plan.unlink(missing_ok=True)
        self._journal.remove()
        for leftover in (self.directory / "clips").glob(".*.tmp.*"):  # of writers that were killed
            leftover.unlink()

    def _read_journal(self) -> None:
        for file, digests in self._journal.read().items():
            self._recorded.setdefault(file, set()).update(digests)
        self._damaged.clear()

    def _verify(self, clip: F) -> None:
        """Enter the file of a clip as whole, or as damaged where it is there; that is said once.

        Raises:
            ArtifactError: a folder is in its place.
        """
        if self.path(clip).is_dir():
            raise ArtifactError(
                f"{self.path(clip)}: a folder, where a file of this set goes; delete it, and run "
                "the same command again"
            )
        recorded = self._recorded.get(clip.file, set())
        try:
            path = inner_file(self.directory, clip.file)
            digest = file_digest(path) if recorded else ""
        except FileNotFoundError:
            return
        except (ValueError, OSError) as error:  # a symbolic link, a FIFO
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            digest = ""
        if digest in recorded:
            self._digests[clip.file] = digest
            return
        self._damaged.add(clip.file)
        if not self._has_said:
            self._has_said = True
            why = "has changed since it was written" if recorded else "was never recorded as whole"
            say(
                f"warning: {self.path(clip)}: this file {why}; it is made again, and so is every "
                "other file of the set of which that holds",
                style="yellow",
            )

    def _check_same_plan(self, path: Path) -> None:
        """Check that the set that `path` describes is this one; its digests are recorded ones.

        Raises:
            ArtifactError: it is another set, or damaged.
        """
        begun = _read_index(path, self.format)
        remedy = f"choose another directory or delete {self.directory}"
        for key, expected in self._content["header"].items():
            if (found := begun["header"].get(key)) != expected:
                raise ArtifactError(
                    f"{path}: this set is made with {key} {found!r:.80}, expected "
                    f"{expected!r:.80}; {remedy}"
                )
        digests = [record.pop("sha256", None) for record in begun["clips"]]
        if begun["clips"] != self._content["clips"]:
            raise ArtifactError(
                f"{path}: this set has other clips than those asked for ({len(digests)} there, "
                f"{len(self.clips)} asked for); {remedy}"
            )
        for clip, digest in zip(self.clips, digests, strict=True):
            if digest is not None:
                self._recorded.setdefault(clip.file, set()).add(digest)


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
            self.header = parse(self.header_type, index["header"], "header")  # type: ignore[assignment]
            if min(self.header.size) < 1:
                raise ValueError("header.size: frames without pixels")
            self._digests = {
                self.file_type.from_json(record): check_sha256(digest)
                for record in index["clips"]
                for digest in [record.pop("sha256", None)]
            }
        except (ValueError, DataError) as error:
            raise ArtifactError(
                f"{path}: not an index of {self.format} ({error}); make the set again"
            ) from error
        self.clips = list(self._digests)  # type: ignore[arg-type]
        if len(self.clips) < len(index["clips"]):
            raise ArtifactError(
                f"{path}: not an index of {self.format} (a clip is listed twice); make the set "
                "again"
            )

    def __len__(self) -> int:
        return len(self.clips)

    def path(self, clip: F) -> Path:
        """The file of a clip, its digest verified.

        Raises:
            ArtifactError: the clip is not of this set, or its file is missing or damaged.
        """
        expected = self._digests.get(clip)
        if expected is None:
            raise ArtifactError(f"{self.directory}: no clip {clip.id} in this set of {self.format}")
        path = self.directory / clip.file
        try:
            found = f"sha256 {file_digest(inner_file(self.directory, clip.file))}"
        except FileNotFoundError:
            found = "no such file"
        except (OSError, ValueError) as error:
            found = str(getattr(error, "strerror", None) or error)
        if found != f"sha256 {expected}":
            raise ArtifactError(
                f"{path}: damaged file of clip {clip.id}: expected sha256 {expected}, found "
                f"{found}; fetch the artifact again or delete the file and run its stage"
            )
        return path


def _read_index(path: Path, expected_format: str) -> dict[str, Any]:
    """An index or plan: of this format, header and clips are objects, the rest is not checked.

    Raises:
        ArtifactError: it is not readable, or of another format.
    """
    remedy = "make the set again"
    index = read_json(path, ArtifactError, remedy)
    found = (index.get("format"), index.get("version")) if isinstance(index, dict) else (None, None)
    if found != (expected_format, FORMAT_VERSION):
        raise ArtifactError(
            f"{path}: expected format {expected_format!r} version {FORMAT_VERSION}, found "
            f"{found[0]!r:.40} version {found[1]!r:.40}; give the directory of a set of "
            f"{expected_format}"
        )
    try:
        if unknown := sorted({*index} - {"format", "version", "header", "clips"}):
            raise ValueError(f"the unknown key {unknown[0]!r:.80}")
        parse(dict[str, Any], index.get("header"), "header")
        parse(list[dict[str, Any]], index.get("clips"), "clips")
    except ValueError as error:
        raise ArtifactError(
            f"{path}: not an index of {expected_format} ({error}); {remedy}"
        ) from error
    return cast(dict[str, Any], index)
