"""Writer of the clip store: one memory-mappable array file per recording and channel.

    <data_dir>/<dataset>-<settings digest>/<H>x<W>/<channel>/<recording>.npy
    <data_dir>/<dataset>-<settings digest>/<H>x<W>/<channel>/manifest.json

Reading a clip decodes nothing. Array files are written atomically, so an interrupted preparation
resumes with the next recording; the manifest is written last, and a channel without one is never
read. The SHA-256 of a file is taken while it is written (see `hvp.data.verification`). The folder's
name holds a digest of the settings (splits, preprocessing, source digest): changed settings never
read an old cache.

Shapes: T frames of a recording, H height, W width.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from hvp.clips import Channel
from hvp.data.array_files import DTYPES, FRAME_DIMS, array_header, array_name
from hvp.data.manifest import (
    MANIFEST,
    PREPARE_AGAIN,
    Manifest,
    StoredRecording,
    claimed_hashes,
    read_manifest,
    store_folder,
    write_manifest,
)
from hvp.data.packed import PreparedDataset, expected_file, has_manifest
from hvp.data.readers.base import MakesLabels, Reader, Recording
from hvp.data.verification import Expected, Journal, known_hashes, verify
from hvp.errors import DataError
from hvp.files import atomic_path, file_lock
from hvp.labels import LabelSpace, Size
from hvp.log import say, track
from hvp.os_errors import disk_errors

MADE_AGAIN = "it is made again"


def prepare(
    reader: Reader,
    data_dir: str | Path,
    size: Size,
    channels: Sequence[Channel],
    repair: bool = False,
) -> PreparedDataset:
    """Prepare a dataset: pack the missing `channels` at `size` and open the result.

    Idempotent and resumable; concurrent calls are safe (a file lock serialises them).

    Args:
        reader: reader of the raw dataset.
        data_dir: folder of the clip stores of all datasets.
        size: stored height and width.
        channels: channels to pack; raw files of other channels are not opened.
        repair: hash every file, and make again what is damaged.

    Raises:
        DataError: the raw data is not what its layout promises, what was prepared is damaged (and
            not to be repaired), or the disk is full.
    """
    settings = reader.settings()
    folder = store_folder(Path(data_dir), reader.name, settings, size)
    if repair or not all(has_manifest(folder, channel) for channel in channels):
        with disk_errors(DataError, folder), file_lock(folder / ".lock"):
            # Looked at again under the lock: another process may have just finished.
            needed = [c for c in channels if repair or not has_manifest(folder, c)]
            _pack_missing(reader, settings, folder, size, needed, repair)
    data = PreparedDataset.open(folder, channels)
    first = data.manifests[channels[0]]
    try:
        first.check_recordings(reader.recordings(), reader.label_space)
    except ValueError as error:
        path = folder / first.channel / MANIFEST
        raise DataError(f"{path}: {error} as in the raw data; {PREPARE_AGAIN}") from error
    return data


@dataclass
class _Packed:
    """What lies in the store of one channel."""

    folder: Path
    manifest: Manifest | None = None
    """Manifest; None where it is missing or damaged."""
    hashes: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the intact array files, by name."""


def _pack_missing(
    reader: Reader,
    settings: dict[str, Any],
    folder: Path,
    size: Size,
    channels: Sequence[Channel],
    repair: bool,
) -> None:
    recordings = reader.recordings()
    _check_names(reader, recordings)
    packed = {c: _inspect(reader, recordings, folder, c, size, repair) for c in channels}
    todo = {
        recording: [c for c in channels if array_name(recording.name) not in packed[c].hashes]
        for recording in recordings
    }
    todo = {recording: needed for recording, needed in todo.items() if needed}
    if todo:
        _check_channels(reader, todo)
        _check_space(reader, folder, todo, size)
        if isinstance(reader, MakesLabels):
            reader.make_labels()
        total = sum(recording.n_frames for recording in todo)
        if any(there.hashes and there.manifest is None for there in packed.values()):
            say(f"resuming the preparation of {reader.name}: {len(todo)} recordings left")

        def frames() -> Iterator[None]:
            for recording, needed in todo.items():
                yield from _pack_recording(reader, recording, {c: packed[c] for c in needed}, size)

        for _ in track(frames(), f"prepare {reader.name} {size[0]}x{size[1]}", total, "frames"):
            pass
    for channel in channels:
        manifest = _manifest(reader, settings, recordings, packed[channel], channel, size)
        if manifest != packed[channel].manifest:
            write_manifest(folder, manifest)
    if repair and not todo:
        n_files = len(recordings) * len(channels)
        say(f"{folder}: verified {n_files} files of {', '.join(channels)}")


def _inspect(
    reader: Reader,
    recordings: Sequence[Recording],
    folder: Path,
    channel: Channel,
    size: Size,
    repair: bool,
) -> _Packed:
    """Find what is intact of a channel, and say what is not.

    An array file is intact only if its SHA-256 was recorded when it was complete: in the manifest,
    or, where that is missing or damaged, in a journal or what can be read of the manifest.
    """
    packed = _Packed(folder / channel)
    packed.folder.mkdir(exist_ok=True)
    for leftover in packed.folder.glob(".*.tmp.*"):
        leftover.unlink()
    if has_manifest(folder, channel):
        try:
            manifest = read_manifest(folder, channel, MADE_AGAIN)
            manifest.check_recordings(recordings, reader.label_space)
            packed.manifest = manifest
        except (DataError, ValueError) as error:
            sentence = f"{packed.folder / MANIFEST}: {error}; {MADE_AGAIN}"
            say(str(error) if isinstance(error, DataError) else sentence, style="yellow")
            _check_replaceable(packed.folder / MANIFEST)
    if packed.manifest is None:
        known = known_hashes(packed.folder)
        for name, sha256 in claimed_hashes(folder, channel):
            known.setdefault(name, set()).add(sha256)
        expected = [
            Expected(name, recording.n_frames, frozenset(known.get(name, ())))
            for recording in recordings
            for name in (array_name(recording.name),)
        ]
    else:
        expected = [expected_file(recording) for recording in packed.manifest.recordings]
    for found in verify(packed.folder, channel, size, expected, anew=repair):
        if not found.damage:
            packed.hashes[found.file] = found.sha256
        elif packed.manifest is not None or found.damage != "missing":
            say(f"{packed.folder / found.file}: {found.damage}; {MADE_AGAIN}", style="yellow")
            _check_replaceable(packed.folder / found.file)
    return packed


def _check_replaceable(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        raise DataError(f"{path}: a folder, expected a file; delete it and run the command again")


def _pack_recording(
    reader: Reader, recording: Recording, packed: dict[Channel, _Packed], size: Size
) -> Iterator[None]:
    """Pack one recording's array files; yields after every frame."""
    name = array_name(recording.name)
    hashes = {channel: hashlib.sha256() for channel in packed}
    with ExitStack() as stack:
        files: dict[Channel, IO[bytes]] = {}

        def write(channel: Channel, content: bytes) -> None:
            files[channel].write(content)
            hashes[channel].update(content)

        for channel, there in packed.items():
            path = stack.enter_context(atomic_path(there.folder / name))
            # Plain writes, not a memory map: on a full disk a map raises SIGBUS.
            files[channel] = stack.enter_context(path.open("wb"))
            write(channel, array_header(channel, recording.n_frames, size))
        count = 0
        for arrays in reader.read(recording, size, list(packed)):
            if count == recording.n_frames:
                raise _wrong_count(reader, recording, "more")
            for channel in packed:
                where = reader.where(recording, channel, count)
                array = arrays[channel]
                write(channel, _to_bytes(array, channel, size, reader.label_space, where))
            count += 1
            yield
        if count != recording.n_frames:
            raise _wrong_count(reader, recording, f"only {count}")
    for channel, there in packed.items():
        there.hashes[name] = hashes[channel].hexdigest()
        Journal(there.folder).add(name, (there.folder / name).stat(), there.hashes[name])


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


def _manifest(
    reader: Reader,
    settings: dict[str, Any],
    recordings: Sequence[Recording],
    packed: _Packed,
    channel: Channel,
    size: Size,
) -> Manifest:
    """Manifest of a channel whose array files are all there, from the one that is, if intact."""

    def stored(recording: Recording) -> StoredRecording:
        name = array_name(recording.name)
        n_bytes = (packed.folder / name).stat().st_size
        own = {"file": name, "bytes": n_bytes, "sha256": packed.hashes[name]}
        return StoredRecording(**{**asdict(recording), **own})

    if packed.manifest is not None:
        now = tuple(stored(recording) for recording in packed.manifest.recordings)
        return replace(packed.manifest, recordings=now)
    entries = tuple(stored(recording) for recording in recordings)
    return Manifest(reader.name, channel, size, settings, reader.label_space, entries)


def _check_names(reader: Reader, recordings: Sequence[Recording]) -> None:
    names = [recording.name for recording in recordings]
    if not names:
        raise DataError(f"dataset {reader.name!r}: no recordings; check data_root")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"dataset {reader.name!r}: two recordings are called {twice!r}; rename one")


def _check_channels(reader: Reader, todo: dict[Recording, list[Channel]]) -> None:
    for channel in dict.fromkeys(c for needed in todo.values() for c in needed):
        without = [r.name for r in todo if channel not in r.channels]
        if without:
            raise DataError(
                f"dataset {reader.name!r}: {len(without)} of {len(todo)} recordings have no "
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
