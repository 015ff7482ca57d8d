"""PNG files written byte by byte: any bit depth, colour type and interlacing."""

import struct
import zlib
from pathlib import Path

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
# First row, first column, row step, column step of the passes of Adam7.
_ADAM7 = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
)  # fmt: skip


def write_png(
    path: Path,
    values: np.ndarray,
    kind: int,
    depth: int = 8,
    palette: np.ndarray | None = None,
    interlaced: bool = False,
    transparency: bytes = b"",
    orientation: int = 1,
) -> Path:
    """Write `values` (H, W) or (H, W, channels); EXIF comes behind the pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape[:2]
    values = values.reshape(height, width, -1)
    passes = [values[a::c, b::d] for a, b, c, d in _ADAM7] if interlaced else [values]
    pixels = b"".join(_rows(part, depth) for part in passes if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    exif = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0) + bytes(4)
    chunks = [(b"IHDR", header)]
    if palette is not None:
        chunks += [(b"PLTE", palette.astype(np.uint8).tobytes())]
    if transparency:
        chunks += [(b"tRNS", transparency)]
    chunks += [(b"IDAT", zlib.compress(pixels))]
    if orientation != 1:
        chunks += [(b"eXIf", exif)]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in [*chunks, (b"IEND", b"")]:
        checksum = zlib.crc32(name + data)
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
    path.write_bytes(content)
    return path


def _rows(values: np.ndarray, depth: int) -> bytes:
    rows = values.reshape(len(values), -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8)
    else:
        bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)
