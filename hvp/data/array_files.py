"""Array files of the clip store: `.npy` of version 1.0 whose header is known before it is read.

A header is compared, never parsed: whatever else a file claims to hold, nothing is allocated or
unpickled for it.

Shapes: T frames of a recording, H height, W width.
"""

import os
from functools import lru_cache
from io import BufferedReader, BytesIO
from math import prod
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.lib import format as npy

from hvp.clips import Channel
from hvp.files import open_regular
from hvp.labels import Size

DTYPES: dict[Channel, np.dtype] = {
    "labels": np.dtype(np.uint8),
    "frames": np.dtype(np.uint8),
    "flow": np.dtype(np.float32),
}
FRAME_DIMS: dict[Channel, tuple[int, ...]] = {"labels": (), "frames": (3,), "flow": (2,)}
"""Leading dimensions of a stored frame: arrays are (T, *FRAME_DIMS, H, W)."""

_LENGTH = slice(8, 10)  # bytes of a header that hold the length of its text


def array_name(recording: str) -> str:
    """Name of a recording's array file."""
    return f"{quote(recording, safe='')}.npy"


@lru_cache(maxsize=1024)
def array_header(channel: Channel, n_frames: int, size: Size) -> bytes:
    """Header of an array file: all bytes before the first frame."""
    file = BytesIO()
    header = {
        "descr": npy.dtype_to_descr(DTYPES[channel]),
        "fortran_order": False,
        "shape": _shape(channel, n_frames, size),
    }
    npy.write_array_header_1_0(file, header)
    return file.getvalue()


def check_array(path: Path, channel: Channel, n_frames: int, size: Size) -> os.stat_result:
    """Check the header and the size in bytes of an array file.

    Raises:
        ValueError: another header or size than that of `n_frames` frames of `size`.
        OSError: no such file, or no regular one.
    """
    with open_regular(path) as file:
        _frames_offset(file, channel, n_frames, size)
        return os.fstat(file.fileno())


def map_array(path: Path, channel: Channel, n_frames: int, size: Size) -> np.ndarray:
    """Memory map of an array file, read-only: (T, *FRAME_DIMS, H, W).

    Raises:
        ValueError: as `check_array`.
        OSError: likewise.
    """
    with open_regular(path) as file:
        offset = _frames_offset(file, channel, n_frames, size)
        shape = _shape(channel, n_frames, size)
        # A plain array over the map: slicing np.memmap objects costs more than copying a clip.
        return np.asarray(np.memmap(file, DTYPES[channel], "r", offset, shape))


def _shape(channel: Channel, n_frames: int, size: Size) -> tuple[int, ...]:
    return (n_frames, *FRAME_DIMS[channel], *size)


def _frames_offset(file: BufferedReader, channel: Channel, n_frames: int, size: Size) -> int:
    """Position of the first frame, once header and size are checked."""
    header = array_header(channel, n_frames, size)
    start = file.read(_LENGTH.stop)
    text = file.read(int.from_bytes(start[_LENGTH], "little"))
    # numpy's versions differ in the padding.
    same = start[: _LENGTH.start] == header[: _LENGTH.start]
    if not same or text.rstrip() != header[_LENGTH.stop :].rstrip():
        raise ValueError(
            f"another header than that of {DTYPES[channel]} {_shape(channel, n_frames, size)}"
        )
    offset = len(start) + len(text)
    expected = offset + prod(_shape(channel, n_frames, size)) * DTYPES[channel].itemsize
    found = os.fstat(file.fileno()).st_size
    if found != expected:
        raise ValueError(f"{found:,} bytes, expected {expected:,}")
    return offset
