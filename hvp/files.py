"""Files: atomic writes, locks, JSON that others wrote, inner paths, SHA-256."""

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from filelock import FileLock, SoftFileLock

from hvp.errors import DataError, HVPError
from hvp.log import say

MAX_JSON_BYTES = 64 << 20
"""Largest JSON file that is read."""
MAX_JSON_VALUES = 4_000_000
"""Most values in a JSON file; memory is bounded by it."""
MAX_JSON_DEPTH = 64
"""Deepest nesting of a JSON file."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EXDEV, errno.EMLINK)
_without_locks: set[Path] = set()  # folders that this process has warned of


# Writing

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]*)?")  # names made below


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Atomic file write: yields a temporary sibling of `path`, renamed to `path` on success.

    The temporary name keeps the suffix of `path` (libraries pick formats by it). The file is
    flushed to disk before the rename; on an exception it is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Atomic folder write: yields a temporary sibling, renamed on success, else removed.

    Raises:
        DataError: `path` exists already.
    """
    if path.exists():
        raise DataError(f"{path}: exists already; remove it or give the name of a new folder")
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unfinished(folder: Path, pattern: str = "**/*") -> list[Path]:
    """Temporary files and folders of atomic writes below `folder`, of living processes too."""
    found = (path for path in folder.glob(pattern) if _TEMPORARY.fullmatch(path.name))
    return sorted(found, reverse=True)  # what lies in a folder before the folder


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def link_or_copy(source: Path, target: Path) -> None:
    """Hard link at `target` to `source`; a copy on a file system without hard links."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


# Locks


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Exclusive lock against all other processes and threads, waited for.

    A `flock`, which the system releases however its holder ends. On a file system without such
    locks a lock file stands in, and one line says so: a killed process may leave it behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as probe:
        has_locks = try_flock(probe) is not None
    lock: FileLock | SoftFileLock = FileLock(path)
    if not has_locks:
        marker = path.with_name(f"{path.name}.soft")
        lock = SoftFileLock(marker)
        if path.parent not in _without_locks:
            _without_locks.add(path.parent)
            say(
                f"warning: {path.parent}: this file system has no locks, {marker.name} stands in "
                "for one; if a run waits for ever, delete that file",
                style="yellow",
            )
    with lock:
        yield


def try_flock(file: IO[Any]) -> bool | None:
    """Take the `flock` of an open file without waiting.

    Returns:
        Whether it is ours now; None on a file system without locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def existing_part(path: Path) -> Path:
    """The path, or the nearest folder above it that exists: the disk that it will lie on."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


# Reading what others may have written


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; never waits, as opening a FIFO would.

    Raises:
        OSError: there is no such file, or it is a directory, FIFO, socket or device.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_json(path: Path, error: type[HVPError], remedy: str, finite: bool = True) -> Any:
    """Read JSON of any origin, in bounded time and memory.

    Args:
        path: a file.
        error: type to raise.
        remedy: end of its message: what to do.
        finite: refuse NaN and infinite numbers, which Python writes though JSON has none.

    Raises:
        HVPError: `error`, where the file is missing, no regular file, larger than
            `MAX_JSON_BYTES`, not JSON, names a key twice, or is nested deeper than
            `MAX_JSON_DEPTH`.
    """
    try:
        with open_regular(path) as file:
            size = min(os.fstat(file.fileno()).st_size, MAX_JSON_BYTES)
            content = file.read(size + 1)
        return _parse_json(content, finite)
    except (OSError, ValueError, RecursionError) as failure:
        if isinstance(failure, FileNotFoundError):
            reason = "no such file"
        elif isinstance(failure, RecursionError):
            reason = f"nesting deeper than {MAX_JSON_DEPTH}"
        else:
            reason = str(getattr(failure, "strerror", None) or failure)
        raise error(f"{path}: expected readable JSON, found {reason:.200}; {remedy}") from failure


def _parse_json(content: bytes, finite: bool) -> Any:
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES >> 20} MiB")
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise ValueError(f"more than {MAX_JSON_VALUES:,} values")

    def number(text: str) -> float:
        value = float(text)
        if finite and not math.isfinite(value):
            raise ValueError(f"the number {text:.20}, which is not finite")
        return value

    value = json.loads(
        content.decode("utf-8"),
        parse_constant=number,
        parse_float=number,
        object_pairs_hook=_distinct,
    )
    level, depth = [value], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, (dict, list))
        for inner in (outer.values() if isinstance(outer, dict) else outer)
        if isinstance(inner, (dict, list))
    ]:
        depth += 1
        if depth >= MAX_JSON_DEPTH:
            raise RecursionError
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.80} twice in one object")
    return found


def check_inner_path(relative: Any) -> str:
    """Check a path that a manifest or index names: below its folder, on every file system.

    Raises:
        ValueError: absolute, with `..`, a drive letter, a backslash or a control character, not
            in its shortest form, or too long.
    """
    if not isinstance(relative, str):
        raise ValueError(f"the path {relative!r:.80}, which is no text")
    parts = relative.split("/")
    if (
        any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts)
        or len(relative) > 4000
        or re.match(r"[A-Za-z]:", relative)
        or "\\" in relative
        or not relative.isprintable()
    ):
        raise ValueError(f"the path {relative!r:.80}, which does not name a file below its folder")
    return relative


def inner_file(folder: Path, relative: str) -> Path:
    """A regular file below `folder`, reached without symbolic links.

    Raises:
        ValueError: as `check_inner_path`, or a symbolic link leads there.
        OSError: there is no such file, or it is no regular one.
    """
    path = folder
    for part in check_inner_path(relative).split("/"):
        path = path / part
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise ValueError(f"{path.name!r}, a symbolic link")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def check_sha256(value: Any) -> str:
    """Check a SHA-256 in hex.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"the digest {value!r:.80}, expected a SHA-256 in hex")
    return value


# Digests


def file_digest(path: Path) -> str:
    """SHA-256 of a regular file's bytes, hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_digest(settings: Any) -> str:
    """SHA-256 of settings as canonical JSON (dicts, lists, scalars; key order is ignored), hex."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
