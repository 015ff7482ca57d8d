"""Ways to damage a file, each drawn from a random generator."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

Damage = Callable[[Path, np.random.Generator], str]
"""Damages a file; returns what was done."""


def flip(path: Path, rng: np.random.Generator) -> str:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    bit = int(rng.integers(8 * len(content)))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return f"bit {bit} flipped"


def zero(path: Path, rng: np.random.Generator) -> str:
    """Overwrite a block with zeros."""
    content = bytearray(path.read_bytes())
    first = int(rng.integers(len(content)))
    length = int(rng.integers(1, 513))
    content[first : first + length] = bytes(len(content[first : first + length]))
    path.write_bytes(content)
    return f"{length} bytes from {first} on zeroed"


def truncate(path: Path, rng: np.random.Generator) -> str:
    """Cut the end off."""
    length = int(rng.integers(1, path.stat().st_size))
    os.truncate(path, length)
    return f"cut off after {length} bytes"


def append(path: Path, rng: np.random.Generator) -> str:
    """Append random bytes."""
    length = int(rng.integers(1, 100))
    with path.open("ab") as file:
        file.write(rng.bytes(length))
    return f"{length} bytes appended"


def empty(path: Path, rng: np.random.Generator) -> str:
    """Leave nothing of it."""
    path.write_bytes(b"")
    return "emptied"


def noise(path: Path, rng: np.random.Generator) -> str:
    """Random bytes instead of it."""
    path.write_bytes(rng.bytes(path.stat().st_size))
    return "noise instead"


def nested(path: Path, rng: np.random.Generator) -> str:
    """Deep JSON instead of it."""
    path.write_text("[" * 200_000)
    return "deep JSON instead"


def remove(path: Path, rng: np.random.Generator) -> str:
    """Remove it."""
    path.unlink()
    return "removed"


def fifo(path: Path, rng: np.random.Generator) -> str:
    """A FIFO instead of it, which blocks whoever opens it."""
    path.unlink()
    os.mkfifo(path)
    return "a FIFO instead"


def folder(path: Path, rng: np.random.Generator) -> str:
    """A folder instead of it."""
    path.unlink()
    path.mkdir()
    return "a folder instead"


def endless(path: Path, rng: np.random.Generator) -> str:
    """A link to an endless device instead of it."""
    path.unlink()
    path.symlink_to("/dev/zero")
    return "a link to /dev/zero instead"


STRUCTURE: tuple[Damage, ...] = (truncate, empty, noise, nested, fifo, folder, endless)
"""What is noticed even of a file that carries no checksum."""
EVERY_BIT: tuple[Damage, ...] = (*STRUCTURE, flip, flip, flip, zero, append, remove)


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Restore a file, or one made again meanwhile, to what it was."""
    content, status = path.read_bytes(), path.stat()
    try:
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not path.is_file() or path.is_symlink():
            path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(status.st_mode)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
