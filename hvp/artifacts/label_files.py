"""NPZ files of label maps: written frame by frame, any sample read by itself, constant memory.

    samples.npy    uint8 (S, T, H, W), deflated: all that `np.load(path)["samples"]` reads
    seek_table.npy int64 (S, 3), per sample: where its deflated bytes begin (counted from the first
                   deflated byte of samples.npy), how many they are, CRC-32 of what they hold

A roll-out gives all samples of a frame at once, while the file has one sample after the other. So
each sample is deflated by itself, all into one temporary file beside the final one, and ends in a
full flush (`Z_FULL_FLUSH`): on a byte boundary, with nothing behind it referring back. Put
together, these pieces are one deflate stream: standard tools read it from its beginning,
`LabelFile` from any piece. A file without a seek table, as `np.savez_compressed` writes it, is read
from its beginning. Writing and reading take one open file, however many samples there are.

Shapes: S samples, T time, H height, W width.
"""

import io
import os
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain
from pathlib import Path
from typing import IO

import numpy as np

from hvp.errors import ArtifactError
from hvp.files import atomic_path, open_regular
from hvp.npz_files import find_member, open_archive, read_array, read_header

Shape = tuple[int, int, int, int]
"""S, T, H, W."""

_MEMBER = "samples.npy"
_SEEK_TABLE = "seek_table.npy"
_DTYPE, _SEEK_DTYPE = np.dtype(np.uint8), np.dtype("<i8")
_CHUNK = 1 << 16
_SMALL_CHUNK = 1 << 12  # of each of many samples that are read side by side
_LOCAL_HEADER = 30  # bytes of a ZIP member's header before its name

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
    with tempfile.TemporaryFile(dir=path.parent) as spool:
        header, *pieces = (_Piece(spool) for _ in range(1 + n_samples))
        count = 0

        def add(frames_SHW: np.ndarray) -> None:
            nonlocal count
            if frames_SHW.shape != (n_samples, *size) or frames_SHW.dtype != np.uint8:
                raise ArtifactError(
                    f"{path}: expected label maps uint8 {(n_samples, *size)} (samples, height, "
                    f"width), found {frames_SHW.dtype} {frames_SHW.shape}"
                )
            for piece, frame in zip(pieces, frames_SHW, strict=True):
                piece.add(np.ascontiguousarray(frame).tobytes())
            count += 1

        yield add
        if count != length:
            raise ArtifactError(
                f"{path}: expected {length} frames (context + horizon), found {count}; add all of "
                "them before the block ends"
            )
        header.add(_npy_header(shape))
        for piece in (header, *pieces):
            piece.end()
        spool.flush()
        with atomic_path(path) as temporary:
            _write(temporary, header, pieces)


class _Piece:
    """A part of a deflate stream that refers to nothing before it, in a file shared by all."""

    def __init__(self, spool: IO[bytes]) -> None:
        self.spool = spool
        self.crc = 0
        self.n_deflated = 0
        self._deflate = _raw_deflate()
        self._extents: list[tuple[int, int]] = []  # begin and size in the spool, in order

    def add(self, content: bytes) -> None:
        self.crc = zlib.crc32(content, self.crc)
        self._put(self._deflate.compress(content))

    def end(self) -> None:
        self._put(self._deflate.flush(zlib.Z_FULL_FLUSH))

    def _put(self, deflated: bytes) -> None:
        if deflated:
            self._extents.append((self.spool.tell(), len(deflated)))
            self.spool.write(deflated)
            self.n_deflated += len(deflated)

    def deflated(self) -> Iterator[bytes]:
        """The deflated bytes, chunk by chunk; the spool must be flushed."""
        for begin, size in self._extents:
            for offset in range(begin, begin + size, _CHUNK):
                wanted = min(_CHUNK, begin + size - offset)
                yield os.pread(self.spool.fileno(), wanted, offset)


def _write(path: Path, header: _Piece, samples: Sequence[_Piece]) -> None:
    """Put the pieces together, in the form that `np.savez_compressed` gives a file."""
    pieces = (header, *samples)
    last = _raw_deflate().flush()  # an empty block that says that it is the last
    info = zipfile.ZipInfo(_MEMBER)
    info.header_offset = 0
    info.compress_type = zipfile.ZIP_DEFLATED
    info.compress_size = sum(piece.n_deflated for piece in pieces) + len(last)
    info.file_size, info.CRC = _inflated_size_and_crc(pieces)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        # `ZipFile` only takes what it deflates itself, so this member is entered by hand.
        file = archive.fp
        assert file is not None
        file.write(info.FileHeader(zip64=True))
        for chunk in chain.from_iterable(piece.deflated() for piece in pieces):
            file.write(chunk)
        file.write(last)
        archive.filelist.append(info)
        archive.NameToInfo[_MEMBER] = info
        archive.start_dir = file.tell()
        with archive.open(zipfile.ZipInfo(_SEEK_TABLE), "w") as member:
            table = _seek_table(header, samples)
            np.lib.format.write_array(member, table, version=(1, 0), allow_pickle=False)


def _inflated_size_and_crc(pieces: Sequence[_Piece]) -> tuple[int, int]:
    """Bytes that the pieces hold together, and their CRC-32."""
    inflate, size, crc = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    for chunk in chain.from_iterable(piece.deflated() for piece in pieces):
        while chunk:  # a chunk of one class alone inflates to a thousand times its size
            content = inflate.decompress(chunk, _CHUNK)
            size, crc = size + len(content), zlib.crc32(content, crc)
            chunk = inflate.unconsumed_tail
    content = inflate.flush()
    return size + len(content), zlib.crc32(content, crc)


def _seek_table(header: _Piece, samples: Sequence[_Piece]) -> np.ndarray:
    """Int64 (S, 3); see the module's docstring."""
    sizes = [piece.n_deflated for piece in samples]
    begins = accumulate(sizes[:-1], initial=header.n_deflated)
    rows = zip(begins, sizes, (piece.crc for piece in samples), strict=True)
    return np.array(list(rows), _SEEK_DTYPE)


def _raw_deflate() -> "zlib._Compress":
    return zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -zlib.MAX_WBITS)


def _npy_header(shape: Shape) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


class LabelFile:
    """Reader of one file; all samples share one descriptor, closed when nobody reads any more.

    Args:
        path: the file.
        shape: (S, T, H, W) that it must have.

    Raises:
        ArtifactError: the file is missing, damaged, or not of `shape`. Nothing of its size has
            been allocated then.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path, self.shape = path, shape
        with _named(path):
            self._file = open_regular(path)
            weakref.finalize(self, self._file.close)
            self._archive = open_archive(self._file)
            self._info = find_member(self._archive, _MEMBER)
            self._start = _first_deflated_byte(self._file, self._info)
            self._table: np.ndarray | None = None
            if _SEEK_TABLE in self._archive.namelist():
                self._table = _read_seek_table(self._archive, shape[0])
                deflated = os.pread(
                    self._file.fileno(), min(int(self._table[0, 0]), _CHUNK), self._start
                )
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, _CHUNK)
                read_header(io.BytesIO(content), self._info, (shape, _DTYPE))
            else:
                with self._archive.open(self._info) as member:
                    read_header(member, self._info, (shape, _DTYPE))

    def read(self) -> np.ndarray:
        """All label maps, uint8 (S, T, H, W).

        Raises:
            ArtifactError: the file is damaged.
        """
        with _named(self.path):
            return read_array(self._archive, _MEMBER, (self.shape, _DTYPE))

    def sample(self, sample: int) -> Iterator[np.ndarray]:
        """The label maps (H, W) uint8 of one sample, one at a time.

        Raises:
            ArtifactError: the file is damaged.
        """
        _, length, height, width = self.shape
        with _named(self.path):
            for content in self._contents(sample, length, height * width):
                yield np.frombuffer(content, np.uint8).reshape(height, width).copy()

    def _contents(self, sample: int, length: int, n_bytes: int) -> Iterator[bytes]:
        if self._table is not None:
            begin, size, crc = self._table[sample].tolist()
            deflated = _chunks(self._file.fileno(), self._start + begin, size)
            yield from _inflate(deflated, crc, length, n_bytes)
        else:
            with self._archive.open(self._info) as member:
                read_header(member, self._info, (self.shape, _DTYPE))
                yield from _skip_to_sample(member, sample * length, length, n_bytes)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise `ArtifactError` in place of what a damaged archive raises, which is nearly anything."""
    try:
        yield
    except Exception as error:
        raise ArtifactError(
            f"{path}: expected an .npz file with `samples`, found {error!r:.300}; make the set "
            "again"
        ) from error


def _first_deflated_byte(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where in a ZIP file a member's content begins."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return info.header_offset + _LOCAL_HEADER + name + extra


def _read_seek_table(archive: zipfile.ZipFile, n_samples: int) -> np.ndarray:
    """Int64 (S, 3); see the module's docstring."""
    table = read_array(archive, _SEEK_TABLE, ((n_samples, 3), _SEEK_DTYPE))
    info = archive.getinfo(_MEMBER)
    rows = table.tolist()
    end = rows[0][0]
    valid = info.compress_type == zipfile.ZIP_DEFLATED and end > 0
    for begin, size, _ in rows:
        valid = valid and begin == end and size > 0
        end += size
    if not valid or end > info.compress_size:
        raise ValueError(f"a {_SEEK_TABLE} that does not fit {_MEMBER}")
    return table


def _chunks(descriptor: int, begin: int, size: int) -> Iterator[bytes]:
    """Bytes `begin` to `begin + size` of a file, chunk by chunk, whoever else reads it."""
    end = begin + size
    while begin < end and (chunk := os.pread(descriptor, min(_SMALL_CHUNK, end - begin), begin)):
        begin += len(chunk)
        yield chunk


def _inflate(deflated: Iterator[bytes], crc: int, length: int, n_bytes: int) -> Iterator[bytes]:
    """The label maps of a sample, each `n_bytes`, from its deflated bytes."""
    inflate, found, waiting = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""

    def read(wanted: int) -> bytes:
        nonlocal waiting
        parts: list[bytes] = []
        while wanted and not inflate.eof:
            if not waiting:
                waiting = next(deflated, b"")
            part = inflate.decompress(waiting, wanted)
            if not part and not waiting:
                break
            waiting = inflate.unconsumed_tail
            parts.append(part)
            wanted -= len(part)
        return b"".join(parts)

    for number in range(length):
        content = read(n_bytes)
        if len(content) < n_bytes:
            raise ValueError(f"a sample that ends after {number} label maps")
        found = zlib.crc32(content, found)
        if number == length - 1 and (read(1) or found != crc):
            raise ValueError("a damaged sample")
        yield content


def _skip_to_sample(member: IO[bytes], first: int, length: int, n_bytes: int) -> Iterator[bytes]:
    """The label maps from the `first` on; of those before it only the bytes are read."""
    for number in range(first + length):
        content = member.read(n_bytes)
        if len(content) < n_bytes:
            raise ValueError(f"it ends after {number} label maps")
        if number >= first:
            yield content
