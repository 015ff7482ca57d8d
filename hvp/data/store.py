"""Writer of the clip store: one memory-mappable array file per recording and channel.

    <data_dir>/<dataset>-<settings digest>/<H>x<W>/<channel>/<recording>.npy
    <data_dir>/<dataset>-<settings digest>/<H>x<W>/<channel>/manifest.json

Reading a clip decodes nothing. Array files are written atomically, so an interrupted preparation
resumes with the next recording; the manifest is written last, and a channel without one is never
read. The folder's name holds a digest of the settings (splits, preprocessing, source digest):
changed settings never read an old cache.

Shapes: T frames of a recording, H height, W width.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import numpy as np
from numpy.lib import format as npy

from hvp.clips import Channel
from hvp.data.packed import PreparedDataset, store_folder
from hvp.data.readers.base import MakesLabels, Reader, Recording
from hvp.errors import DataError
from hvp.files import atomic_path, disk_errors, file_digest, file_lock, write_json
from hvp.labels import LabelSpace, Size
from hvp.log import say, track

DTYPES: dict[Channel, np.dtype] = {
    "labels": np.dtype(np.uint8),
    "frames": np.dtype(np.uint8),
    "flow": np.dtype(np.float32),
}
FRAME_DIMS: dict[Channel, tuple[int, ...]] = {"labels": (), "frames": (3,), "flow": (2,)}
"""Leading dimensions of a stored frame: arrays are (T, *FRAME_DIMS, H, W)."""


def prepare(
    reader: Reader, data_dir: str | Path, size: Size, channels: Sequence[Channel]
) -> PreparedDataset:
    """Prepare a dataset: pack the missing `channels` at `size` and open the result.

    Idempotent and resumable; concurrent calls are safe (a file lock serialises them).

    Args:
        reader: reader of the raw dataset.
        data_dir: folder of the clip stores of all datasets.
        size: stored height and width.
        channels: channels to pack; raw files of other channels are not opened.

    Raises:
        DataError: the raw data is not what its layout promises, or the disk is full.
    """
    settings = reader.settings()
    folder = store_folder(Path(data_dir), reader.name, settings, size)
    if any(not (folder / channel / "manifest.json").is_file() for channel in channels):
        with disk_errors(DataError, folder, "data_dir"), file_lock(folder / ".lock"):
            _pack_missing(reader, settings, folder, size, channels)
    return PreparedDataset.open(folder, channels)


def _pack_missing(
    reader: Reader,
    settings: dict[str, Any],
    folder: Path,
    size: Size,
    channels: Sequence[Channel],
) -> None:
    # Checked again under the lock: another process may have just finished.
    missing = [c for c in channels if not (folder / c / "manifest.json").is_file()]
    if not missing:
        return
    recordings = reader.recordings()
    _check_recordings(reader, recordings, missing)
    for channel in missing:
        (folder / channel).mkdir(exist_ok=True)
        for leftover in (folder / channel).glob(".*.tmp.*"):
            leftover.unlink()

    todo = {
        recording: [c for c in missing if not _is_packed(folder, c, recording, size)]
        for recording in recordings
    }
    todo = {recording: needed for recording, needed in todo.items() if needed}
    _check_space(reader, folder, todo, size)
    if isinstance(reader, MakesLabels):
        reader.make_labels()
    total = sum(recording.n_frames for recording in todo)
    if total < sum(recording.n_frames for recording in recordings):
        say(f"resuming the preparation of {reader.name}: {len(todo)} recordings left")

    def frames() -> Iterator[None]:
        for recording, needed in todo.items():
            yield from _pack_recording(reader, recording, needed, folder, size)

    for _ in track(frames(), f"prepare {reader.name} {size[0]}x{size[1]}", total, "frames"):
        pass
    for channel in missing:
        _write_manifest(reader, settings, recordings, folder, channel, size)


def _pack_recording(
    reader: Reader, recording: Recording, channels: Sequence[Channel], folder: Path, size: Size
) -> Iterator[None]:
    """Pack one recording's array files; yields after every frame."""
    with ExitStack() as stack:
        files: dict[Channel, IO[bytes]] = {}
        for channel in channels:
            path = stack.enter_context(atomic_path(_array_path(folder, channel, recording)))
            # Plain writes, not a memory map: on a full disk a map raises SIGBUS.
            files[channel] = stack.enter_context(path.open("wb"))
            shape = (recording.n_frames, *FRAME_DIMS[channel], *size)
            header = {
                "descr": npy.dtype_to_descr(DTYPES[channel]),
                "fortran_order": False,
                "shape": shape,
            }
            npy.write_array_header_1_0(files[channel], header)
        count = 0
        for arrays in reader.read(recording, size, channels):
            if count == recording.n_frames:
                raise _wrong_count(reader, recording, "more")
            for channel, file in files.items():
                where = reader.where(recording, channel, count)
                file.write(_to_bytes(arrays[channel], channel, size, reader.label_space, where))
            count += 1
            yield
        if count != recording.n_frames:
            raise _wrong_count(reader, recording, f"only {count}")


def _to_bytes(
    array: np.ndarray, channel: Channel, size: Size, space: LabelSpace, where: str
) -> bytes:
    """Validate one frame and return its bytes in the stored layout."""
    expected = (*size, 3) if channel == "frames" else (*FRAME_DIMS[channel], *size)
    if array.shape != expected or array.dtype != DTYPES[channel]:
        raise DataError(
            f"{where}: the reader gave {array.dtype} {array.shape}, expected "
            f"{DTYPES[channel]} {expected} for channel {channel!r}"
        )
    if channel == "labels":
        space.check(array, where)
    elif channel == "frames":
        array = array.transpose(2, 0, 1)
    return array.tobytes()


def _write_manifest(
    reader: Reader,
    settings: dict[str, Any],
    recordings: Sequence[Recording],
    folder: Path,
    channel: Channel,
    size: Size,
) -> None:
    paths = [_array_path(folder, channel, recording) for recording in recordings]
    write_json(
        folder / channel / "manifest.json",
        {
            "dataset": reader.name,
            "channel": channel,
            "size": list(size),
            "settings": settings,
            "label_space": asdict(reader.label_space),
            "recordings": [
                {
                    **asdict(recording),
                    "file": path.name,
                    "bytes": path.stat().st_size,
                    "sha256": file_digest(path),
                }
                for recording, path in zip(recordings, paths, strict=True)
            ],
        },
    )


def _array_path(folder: Path, channel: Channel, recording: Recording) -> Path:
    return folder / channel / f"{quote(recording.name, safe='')}.npy"


def _is_packed(folder: Path, channel: Channel, recording: Recording, size: Size) -> bool:
    """Whether the array file exists with the right header (its final name means complete)."""
    path = _array_path(folder, channel, recording)
    if not path.is_file():
        return False
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return False
    shape = (recording.n_frames, *FRAME_DIMS[channel], *size)
    return array.shape == shape and array.dtype == DTYPES[channel]


def _check_recordings(
    reader: Reader, recordings: Sequence[Recording], channels: Sequence[Channel]
) -> None:
    names = [recording.name for recording in recordings]
    if not names:
        raise DataError(f"dataset {reader.name!r}: no recordings; check data_root")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"dataset {reader.name!r}: two recordings are called {twice!r}; rename one")
    for channel in channels:
        without = [r.name for r in recordings if channel not in r.channels]
        if without:
            raise DataError(
                f"dataset {reader.name!r}: {len(without)} of {len(names)} recordings have no "
                f"{channel} (first: {without[0]}); add them or run a stage that needs labels only"
            )


def _check_space(
    reader: Reader, folder: Path, todo: dict[Recording, list[Channel]], size: Size
) -> None:
    """State what the packing will need, and check the free space, before any work.

    Raises:
        DataError: the disk has too little space.
    """
    needed = sum(
        recording.n_frames * size[0] * size[1] * DTYPES[c].itemsize * int(np.prod(FRAME_DIMS[c]))
        for recording, channels in todo.items()
        for c in channels
    )
    free = shutil.disk_usage(folder).free
    say(
        f"prepare {reader.name} {size[0]}x{size[1]}: {sum(r.n_frames for r in todo)} frames of "
        f"{len(todo)} recordings take {needed / 2**30:.2f} GiB in {folder}, "
        f"{free / 2**30:.1f} GiB are free"
    )
    if needed > free:
        raise DataError(
            f"{folder}: preparing needs {needed / 2**30:.1f} GiB, the disk has "
            f"{free / 2**30:.1f} GiB free; free space or set data_dir to another disk"
        )


def _wrong_count(reader: Reader, recording: Recording, found: str) -> DataError:
    return DataError(
        f"dataset {reader.name!r}, recording {recording.name!r}: {found} frames than the "
        f"{recording.n_frames} expected could be read; the source changed while being read"
    )
