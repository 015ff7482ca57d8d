"""PyTorch files (`torch.save`): safe loading, and a checksum of the whole file.

A checkpoint may come from a stranger or from a failing disk. Loading one runs no code, takes memory
in proportion to the file, and raises one type of error.

The checksum is the comment of the zip file, which every reader of zip files skips: `sha256` and
the digest of all bytes before it. So every bit of the file counts, also those that a zip reader
ignores, and file and checksum are one atomic write.
"""

import hashlib
import os
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from hvp.files import open_regular
from hvp.os_errors import is_of_the_machine

_PREFIX = b"hvp sha256 "
_RECORD = re.compile(re.escape(_PREFIX) + rb"([0-9a-f]{64})")
_LENGTH = len(_PREFIX) + 64
_END = b"PK\x05\x06"  # end of the central directory, the last 22 bytes of a zip without comment
_END_LENGTH = 22
_CHUNK = 2**20


_CODE = re.compile(r"(?:GLOBAL|global) ([\w.]+)")  # in what torch says of a pickle that needs code


class UnreadableFile(Exception):
    """A PyTorch file that is corrupt, is no such file, or would run code; the reason in a line."""

    def __init__(self, reason: str, code: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        """What of the file only unsafe unpickling could read, which runs code; not run."""


def add_checksum(path: Path) -> None:
    """Append the SHA-256 of a zip file as its comment."""
    with path.open("r+b") as file:
        file.seek(-_END_LENGTH, os.SEEK_END)
        end = file.read()
        if not end.startswith(_END) or end[-2:] != b"\0\0":
            raise OSError(f"{path}: torch.save wrote no zip file without comment")
        file.seek(-2, os.SEEK_END)
        file.write(_LENGTH.to_bytes(2, "little") + _PREFIX)
        file.flush()
        digest = _digest(path, path.stat().st_size)
        file.seek(0, os.SEEK_END)
        file.write(digest.encode())


def corruption(path: Path) -> str | None:
    """What is wrong with a PyTorch file; None if it is as it was saved.

    With a checksum every bit is verified. A file without one (of an earlier version or another
    program) is read whole: structure, checksums of its parts, and the values in it.

    Raises:
        OSError: the file cannot be read for a reason that lies outside of it (permissions, too many
            open files, a failing disk).
        MemoryError: neither can it for want of memory.
    """
    try:
        if _recorded(path) is None:
            load_torch_file(path)
        else:
            _verify(path)
    except UnreadableFile as error:
        return str(error)
    except Exception as error:  # whatever bytes it meets
        if is_of_the_machine(error):
            raise
        return _one_line(error)
    return None


def load_torch_file(path: Path) -> Any:
    """Content of a `torch.save` file, tensors on the CPU; runs no code (`weights_only`).

    Raises:
        UnreadableFile: the file is corrupt, no PyTorch file, would run code, or inflates to more
            than its own size.
        FileNotFoundError: there is no such file.
    """
    try:
        _verify(path)
        with open_regular(path) as file:
            begins_as_zip = file.read(4) == b"PK\x03\x04"
        if begins_as_zip:
            _check_members(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnreadableFile, FileNotFoundError):
        raise
    except UnpicklingError as error:
        code = _CODE.search(str(error))
        if code is None:
            raise UnreadableFile("holds other objects than tensors and plain values") from error
        raise UnreadableFile(f"holds {code[1]}, which runs code", code[1]) from error
    except Exception as error:  # torch and zipfile raise many types on files that are not theirs
        if is_of_the_machine(error):
            raise
        raise UnreadableFile(_one_line(error)) from error


def _verify(path: Path) -> None:
    """Compare a file with its checksum, if it has one."""
    recorded = _recorded(path)
    if recorded is not None and _digest(path, path.stat().st_size - 64) != recorded:
        raise UnreadableFile("its bytes are not those that were saved: SHA-256 differs")


def _recorded(path: Path) -> str | None:
    """The checksum in a file; None without one."""
    with open_regular(path) as file:
        if file.seek(0, os.SEEK_END) < _LENGTH:
            return None
        file.seek(-_LENGTH, os.SEEK_END)
        found = _RECORD.fullmatch(file.read())
    return None if found is None else found[1].decode()


def _digest(path: Path, n_bytes: int) -> str:
    """SHA-256 of the first bytes of a file, hex."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while n_bytes > 0 and (chunk := file.read(min(_CHUNK, n_bytes))):
            digest.update(chunk)
            n_bytes -= len(chunk)
    return digest.hexdigest()


def _check_members(path: Path) -> None:
    """Refuse a zip file that is larger inside than outside, and verify the CRC of every member."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise UnreadableFile("holds compressed members, which torch.save does not write")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise UnreadableFile("holds more bytes than the file is long")
        broken = archive.testzip()
    if broken is not None:
        raise UnreadableFile(f"checksum of {broken}")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
