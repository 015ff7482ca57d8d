"""The .npz files of a prediction set, written and read frame by frame in constant memory.

`np.load(path)["samples"]` is uint8 (S, T, H, W): one sample after the other, while a roll-out gives
all samples of a frame at once. So the writer keeps each sample in a compressed temporary file
beside the final one until all have ended.

Shapes: S samples, T time, H height, W width.
"""

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from hvp.errors import ArtifactError
from hvp.files import atomic_path

Shape = tuple[int, int, int, int]
"""S, T, H, W."""

_MEMBER = "samples.npy"
_SPOOL_LEVEL = 1  # of zlib; the temporary files are read once
_CHUNK = 1 << 20


AddFrames = Callable[[np.ndarray], None]
"""Appends the next frame of all samples, uint8 (S, H, W)."""


@contextmanager
def open_samples(path: Path, shape: Shape) -> Iterator[AddFrames]:
    """Yield the function that appends a frame; the file appears when the block ends well.

    Args:
        path: file to write, `.npz`.
        shape: (S, T, H, W) of what will be added.

    Raises:
        ArtifactError: a frame is not uint8 (S, H, W), or not T of them were added.
    """
    n_samples, length, *size = shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        spools = [
            stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in range(n_samples)
        ]
        compressors = [zlib.compressobj(_SPOOL_LEVEL) for _ in range(n_samples)]
        count = 0

        def add(frames_SHW: np.ndarray) -> None:
            nonlocal count
            if frames_SHW.shape != (n_samples, *size) or frames_SHW.dtype != np.uint8:
                raise ArtifactError(
                    f"{path}: expected label maps uint8 {(n_samples, *size)} (samples, height, "
                    f"width), found {frames_SHW.dtype} {frames_SHW.shape}"
                )
            for spool, compressor, frame in zip(spools, compressors, frames_SHW, strict=True):
                spool.write(compressor.compress(np.ascontiguousarray(frame).tobytes()))
            count += 1

        yield add
        if count != length:
            raise ArtifactError(
                f"{path}: expected {length} frames (context + horizon), found {count}; add all of "
                "them before the block ends"
            )
        for spool, compressor in zip(spools, compressors, strict=True):
            spool.write(compressor.flush())
        with atomic_path(path) as temporary:
            _write(temporary, shape, spools)


def _write(path: Path, shape: Shape, spools: Sequence[IO[bytes]]) -> None:
    """The same file as `np.savez_compressed` makes."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(_MEMBER, "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for spool in spools:
            spool.seek(0)
            decompressor = zlib.decompressobj()
            while chunk := decompressor.unconsumed_tail or spool.read(_CHUNK):
                member.write(decompressor.decompress(chunk, _CHUNK))
            member.write(decompressor.flush())


def read_sample(path: Path, shape: Shape, sample: int) -> Iterator[np.ndarray]:
    """The label maps (H, W) uint8 of one sample, one at a time.

    Raises:
        ArtifactError: the file is missing, damaged, or not of `shape`.
    """
    _, length, height, width = shape
    n_bytes = height * width
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_MEMBER) as member:
            np.lib.format.read_magic(member)  # version 1.0, as written here and by numpy
            found, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
            if (found, fortran_order, dtype) != (shape, False, np.uint8):
                raise ValueError(f"{dtype} {found}, expected uint8 {shape} in C order")
            for number in range((sample + 1) * length):  # of the frames before only the bytes
                content = member.read(n_bytes)
                if len(content) < n_bytes:
                    raise ValueError(f"it ends after {number} label maps")
                if number >= sample * length:
                    yield np.frombuffer(content, np.uint8).reshape(height, width).copy()
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path}: expected an .npz file with `samples`, found {error!r}; make the set again"
        ) from error
