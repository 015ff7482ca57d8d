"""Atomic file writes, natural order of names, and SHA-256 digests of files and settings."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from hvp.errors import DataError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp(\.[^.]*)?")  # names made below


def natural_key(name: str) -> tuple[tuple[str, int], ...]:
    """Natural sort key: digits count as one number, so `frame_9` comes before `frame_10`.

    Names whose numbers are padded to one width come in the order of their characters.
    """
    # A number sorts where a digit sorts among the characters, and then by its value.
    parts = re.findall(r"[0-9]+|[^0-9]", name)
    return tuple(("0", int(part)) if part[0] in "0123456789" else (part, 0) for part in parts)


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


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_digest(settings: Any) -> str:
    """SHA-256 of settings as canonical JSON (dicts, lists, scalars; key order is ignored), hex."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
