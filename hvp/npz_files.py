"""NPZ files of any origin: arrays are read in memory bounded by the file; nothing is unpickled.

What a file claims (sizes in the archive, shape and type in the header of an array) is checked
against its real size before anything is allocated.
"""

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO

import numpy as np

from hvp.files import open_regular

Kind = tuple[tuple[int, ...], np.dtype]
"""Shape and type of an array."""

_DEFLATE_RATIO = 1032  # a deflated byte holds no more bytes than that
_CHUNK = 1 << 20


@contextmanager
def open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an `.npz` file.

    Raises:
        OSError: there is no such file, or no regular one.
        ValueError, zipfile.BadZipFile: it is no such file.
    """
    with open_regular(path) as file, open_archive(file) as archive:
        yield archive


def open_archive(file: BufferedReader) -> zipfile.ZipFile:
    """The ZIP archive in an open file; its members together are no larger than the file.

    Raises:
        ValueError, zipfile.BadZipFile: it is none, or claims more bytes than there are.
    """
    archive = zipfile.ZipFile(file)
    size = os.fstat(file.fileno()).st_size
    claimed = sum(info.compress_size for info in archive.infolist())
    if claimed > size:
        raise ValueError(f"members of {claimed:,} bytes in a file of {size:,} bytes")
    return archive


def find_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A member of an archive that can hold as much as it claims.

    Raises:
        KeyError: there is none of this name.
        ValueError: it is compressed in another way than numpy does, or claims too much.
    """
    info = archive.getinfo(name)
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _DEFLATE_RATIO}.get(info.compress_type)
    if ratio is None:
        raise ValueError(f"{name}: neither stored nor deflated")
    if info.file_size > ratio * info.compress_size:
        raise ValueError(f"{name}: {info.file_size:,} bytes claimed of {info.compress_size:,}")
    return info


def read_header(
    content: IO[bytes], info: zipfile.ZipInfo, expected: Kind | None
) -> tuple[Kind, bool]:
    """Read the header of an array, which says what follows; numpy writes version 1.0.

    Args:
        content: the member from its beginning.
        info: what the archive says of it.
        expected: refuse other shapes and types, and Fortran order.

    Returns:
        Shape and type, and whether the values lie in Fortran order.

    Raises:
        ValueError: a type of objects, another kind than expected, or not as many bytes follow.
            A damaged header may raise nearly anything else.
    """
    np.lib.format.read_magic(content)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(content)
    if expected is not None and (shape, dtype, is_fortran) != (*expected, False):
        raise ValueError(
            f"{info.filename}: {dtype} {shape}, expected {expected[1]} {expected[0]} in C order"
        )
    if dtype.hasobject:
        raise ValueError(f"{info.filename}: an array of objects, which would have to be unpickled")
    n_bytes = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or info.file_size != content.tell() + n_bytes:
        raise ValueError(f"{info.filename}: {info.file_size:,} bytes for {dtype} {shape}")
    return (shape, dtype), is_fortran


def read_array(archive: zipfile.ZipFile, name: str, expected: Kind | None = None) -> np.ndarray:
    """Read an array.

    Args:
        archive: from `open_npz`.
        name: the array's name with `.npy`.
        expected: refuse other shapes and types, and Fortran order.

    Raises:
        Exception: it is missing, damaged, of objects or another kind than expected; a damaged
            archive raises nearly anything.
    """
    info = find_member(archive, name)
    with archive.open(info) as content:
        (shape, dtype), is_fortran = read_header(content, info, expected)
        array = np.empty(math.prod(shape), dtype)
        flat, filled = array.view(np.uint8), 0
        while chunk := content.read(_CHUNK):
            part = np.frombuffer(chunk, np.uint8)
            flat[filled : filled + part.size] = part  # no more than the header said
            filled += part.size
        if filled != flat.size:
            raise ValueError(f"{name}: ends after {filled:,} of {flat.size:,} bytes")
    return array.reshape(shape, order="F" if is_fortran else "C")
