"""Staging for atomic publishing into a local store: lock, private directory, fsynced copies."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from hvp.artifacts.store import FileEntry, list_files
from hvp.files import file_lock, open_regular, try_flock

_CHUNK = 1 << 20


@contextmanager
def lock_store(root: Path) -> Iterator[None]:
    """Exclusive lock of the store at `root`, against all other processes and threads."""
    with file_lock(root / ".lock"):
        yield


@contextmanager
def staging_directory(root: Path) -> Iterator[Path]:
    """Temporary directory on the file system of `root`, removed at the end.

    Its owner holds a `flock`, which the system releases however the owner dies; the next publisher
    removes directories whose lock is free.
    """
    area = root / ".staging"
    directory = area / uuid4().hex
    owner_path = area / f"{directory.name}.lock"
    # Under the store's lock, so that `_remove_abandoned` never sees a lock file not yet locked.
    with lock_store(root):
        area.mkdir(exist_ok=True)
        _remove_abandoned(area)
        owner = owner_path.open("a")
        try_flock(owner)
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
            if not try_flock(owner):
                continue  # the owner is alive, or nobody can tell: a file system without locks
            shutil.rmtree(owner_path.with_suffix(""), ignore_errors=True)
            owner_path.unlink(missing_ok=True)


def copy_tree(source: Path, target: Path) -> dict[str, FileEntry]:
    """Copy all files below `source`, fsynced; returns digest and size of the copied bytes.

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
    with open_regular(source) as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileEntry(digest.hexdigest(), size)


def fsync_directory(path: Path) -> None:
    """Fsync a directory, so that the names in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """`fsync_directory` for `root` and all directories below it."""
    for folder, _, _ in os.walk(root):
        fsync_directory(Path(folder))
