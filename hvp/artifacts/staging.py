"""How files get into a local store unharmed: its lock, its staging area, flushed copies."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from hvp.artifacts.store import FileEntry, list_files

_CHUNK = 1 << 20


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Keep every other process and thread from changing the store at `root`."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def staging_directory(root: Path) -> Iterator[Path]:
    """A private directory on the file system of `root`; what is left in it at the end is removed.

    Its owner holds a lock that the system releases when the owner dies, however it dies; the next
    one to come removes what such an owner left.
    """
    area = root / ".staging"
    directory = area / uuid4().hex
    owner_path = area / f"{directory.name}.lock"
    # Making and taking the owner's lock is one step for `_remove_abandoned`, under the same lock.
    with exclusive(root):
        area.mkdir(exist_ok=True)
        _remove_abandoned(area)
        owner = owner_path.open("a")
        fcntl.flock(owner, fcntl.LOCK_EX)
    try:
        directory.mkdir()
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        owner_path.unlink()
        owner.close()


def _remove_abandoned(area: Path) -> None:
    for owner_path in area.glob("*.lock"):
        with owner_path.open("a") as owner:
            try:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its owner lives
            shutil.rmtree(owner_path.with_suffix(""), ignore_errors=True)
            owner_path.unlink(missing_ok=True)


def copy_tree(source: Path, target: Path) -> dict[str, FileEntry]:
    """Copy all files below `source`, flushed to disk, and describe the bytes that were copied.

    Raises:
        ArtifactError: `source` is not a directory or holds no file.
    """
    entries = {}
    for path in list_files(source):
        relative = path.relative_to(source)
        entries[relative.as_posix()] = _copy(path, target / relative)
    return entries


def _copy(source: Path, target: Path) -> FileEntry:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileEntry(digest.hexdigest(), size)


def flush_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_directories(root: Path) -> None:
    """`flush_directory` for `root` and all directories below it."""
    for folder, _, _ in os.walk(root):
        flush_directory(Path(folder))
