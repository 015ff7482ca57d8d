"""Memory-mapped reader of the clip store that `hvp.data.store` writes.

Shapes: T time, H height, W width.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hvp.clips import Channel, ClipId
from hvp.data.array_files import map_array
from hvp.data.manifest import (
    MANIFEST,
    PREPARE_AGAIN,
    Manifest,
    StoredRecording,
    prepared_digest,
    read_manifest,
    reason,
)
from hvp.data.readers.base import Recording
from hvp.data.verification import Expected, verify
from hvp.errors import DataError
from hvp.os_errors import disk_errors, is_of_the_machine

MAX_OPEN_FILES = 256
"""Size of the LRU cache of memory maps, per process; each map holds a file descriptor."""

STREAM_CHUNK = 16
"""Frames that `PreparedDataset.stream` reads together."""


@dataclass
class PreparedDataset:
    """Prepared dataset: memory-mapped recordings with random access to clips."""

    folder: Path
    """`<data_dir>/<dataset>-<digest>/<H>x<W>`."""
    manifests: dict[Channel, Manifest]
    """Manifest of every opened channel."""
    _open: OrderedDict[tuple[Channel, str], np.ndarray] = field(
        default_factory=OrderedDict, repr=False
    )

    def __post_init__(self) -> None:
        manifest = next(iter(self.manifests.values()))
        self.name = manifest.dataset
        self.size = manifest.size
        self.settings = manifest.settings
        self.digest = prepared_digest(self.settings, self.size)
        """SHA-256 of settings and size: equal for two datasets exactly if frames and splits are."""
        self.recordings = [
            Recording(r.name, r.split, r.n_frames, r.channels) for r in manifest.recordings
        ]
        self.label_space = manifest.label_space
        self._n_frames = {recording.name: recording.n_frames for recording in self.recordings}
        self._files = {
            (channel, recording.name): self.folder / channel / recording.file
            for channel, content in self.manifests.items()
            for recording in content.recordings
        }

    @classmethod
    def open(cls, folder: Path, channels: Sequence[Channel]) -> "PreparedDataset":
        """Open `channels` of a prepared folder.

        Sizes and headers of all files are checked, and the SHA-256 of those that this machine has
        not hashed since they were last modified.

        Raises:
            DataError: a channel was never completely prepared; or a manifest or array file is
                missing, damaged or no regular file.
        """
        manifests: dict[Channel, Manifest] = {}
        for channel in channels:
            path = folder / channel / MANIFEST
            if not has_manifest(folder, channel):
                raise DataError(
                    f"{path} is missing: {channel} was not prepared; run `python run.py "
                    "stage=prepare` with the same dataset settings"
                )
            with disk_errors(DataError, folder):
                manifests[channel] = read_manifest(folder, channel)
        first = next(iter(manifests.values()))
        for channel, manifest in manifests.items():
            try:
                manifest.check_recordings(first.recordings, first.label_space)
            except ValueError as error:
                path = folder / channel / MANIFEST
                raise DataError(
                    f"{path}: {error} as in {first.channel}; {PREPARE_AGAIN}"
                ) from error
        data = cls(folder, manifests)
        with disk_errors(DataError, folder):
            data.verify(anew=False)
        return data

    def verify(self, anew: bool = True) -> None:
        """Checksum test of every array file against its recorded SHA-256.

        Args:
            anew: hash also what was hashed on this machine and not modified since.

        Raises:
            DataError: a file's content changed.
        """
        for channel, manifest in self.manifests.items():
            expected = [expected_file(recording) for recording in manifest.recordings]
            folder = self.folder / channel
            for found in verify(folder, channel, self.size, expected, anew):
                if found.damage:
                    raise DataError(f"{folder / found.file}: {found.damage}; {PREPARE_AGAIN}")

    def read(self, channel: Channel, clip: ClipId, length: int) -> np.ndarray:
        """Frames `first`, `first + step`, ...: `length` of them, fewer where the recording ends.

        Returns:
            A copy: labels (T, H, W) uint8, frames (T, 3, H, W) uint8 or flow (T, 2, H, W) float32.
            Flow is to the previous RECORDED frame, whatever the clip's step.
        """
        return np.array(self._view(channel, clip, length))

    def gather(self, channel: Channel, clips: Sequence[ClipId], length: int) -> np.ndarray:
        """Batch of clips, copied once from the memory maps: `read` with a leading dimension B.

        Raises:
            ValueError: the clips are not equally long.
        """
        return np.stack([self._view(channel, clip, length) for clip in clips])

    def recorded_length(self, clip: ClipId, length: int) -> int:
        """Number of a clip's `length` frames that were recorded; fewer where its recording ends.

        Raises:
            DataError: no recording has that name.
        """
        n_frames = self._n_frames.get(clip.recording)
        if n_frames is None:
            raise DataError(
                f"{self.folder}: no recording {clip.recording!r} among the {len(self._n_frames)} "
                f"of dataset {self.name!r}; use the dataset settings that the clip was made with"
            )
        return max(0, min(length, -(-(n_frames - clip.first) // clip.step)))

    def stream(self, channel: Channel, clip: ClipId, length: int) -> Iterator[np.ndarray]:
        """Frame iterator over a clip, in constant memory; ends where the recording ends.

        Args:
            channel: what to read.
            clip: first frame and frame step.
            length: frames of the clip, at most.

        Yields:
            Labels (H, W) uint8, RGB (H, W, 3) uint8 or flow (2, H, W) float32 (as in `read`).

        Raises:
            DataError: no recording has that name.
        """
        n_frames = self.recorded_length(clip, length)
        for t in range(0, n_frames, STREAM_CHUNK):
            chunk = clip._replace(first=clip.first + t * clip.step)
            frames = self.read(channel, chunk, min(STREAM_CHUNK, n_frames - t))
            yield from frames.transpose(0, 2, 3, 1) if channel == "frames" else frames

    def _view(self, channel: Channel, clip: ClipId, length: int) -> np.ndarray:
        packed = self._map(channel, clip.recording)
        stop = clip.first + (length - 1) * clip.step + 1
        return packed[clip.first : stop : clip.step]

    def _map(self, channel: Channel, recording: str) -> np.ndarray:
        key = channel, recording
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        path = self._files[key]
        try:
            packed = map_array(path, channel, self._n_frames[recording], self.size)
        except (OSError, ValueError) as error:
            if is_of_the_machine(error):
                raise
            raise DataError(f"{path}: {reason(error)}; {PREPARE_AGAIN}") from error
        self._open[key] = packed
        if len(self._open) > MAX_OPEN_FILES:
            self._open.popitem(last=False)
        return packed

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map copies its whole file; loader workers open their own.
        return {**self.__dict__, "_open": OrderedDict()}


def has_manifest(folder: Path, channel: Channel) -> bool:
    """Whether anything lies where a channel's manifest belongs."""
    return os.path.lexists(folder / channel / MANIFEST)


def expected_file(recording: StoredRecording) -> Expected:
    """Array file of a recording, as its manifest says."""
    return Expected(recording.file, recording.n_frames, frozenset((recording.sha256,)))
