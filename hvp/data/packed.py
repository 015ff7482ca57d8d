"""Memory-mapped reader of the clip store that `hvp.data.store` writes.

Shapes: T time, H height, W width.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hvp.clips import Channel, ClipId
from hvp.data.readers.base import Recording
from hvp.errors import DataError
from hvp.files import file_digest, settings_digest
from hvp.labels import LabelSpace, Size

STORE_VERSION = 1
"""Part of every digest: raise it when the packed layout or the meaning of a channel changes."""

MAX_OPEN_FILES = 256
"""Size of the LRU cache of memory maps, per process; each map holds a file descriptor."""

STREAM_CHUNK = 16
"""Frames that `PreparedDataset.stream` reads together."""


def prepared_digest(settings: dict[str, Any], size: Size | None = None) -> str:
    """SHA-256 in hex of a reader's settings, and of the image size where one is given."""
    return settings_digest({"store": STORE_VERSION, "settings": settings, "size": size})


def store_folder(data_dir: Path, dataset: str, settings: dict[str, Any], size: Size) -> Path:
    """Folder of a dataset prepared with `settings` at `size`."""
    return data_dir / f"{dataset}-{prepared_digest(settings)[:12]}" / f"{size[0]}x{size[1]}"


@dataclass
class PreparedDataset:
    """Prepared dataset: memory-mapped recordings with random access to clips."""

    folder: Path
    """`<data_dir>/<dataset>-<digest>/<H>x<W>`."""
    manifests: dict[Channel, dict[str, Any]]
    """Manifest of every opened channel."""
    _open: OrderedDict[Path, np.ndarray] = field(default_factory=OrderedDict, repr=False)

    def __post_init__(self) -> None:
        manifest = next(iter(self.manifests.values()))
        self.name: str = manifest["dataset"]
        self.size: Size = (manifest["size"][0], manifest["size"][1])
        self.settings: dict[str, Any] = manifest["settings"]
        self.digest = prepared_digest(self.settings, self.size)
        """SHA-256 of settings and size: equal for two datasets exactly if frames and splits are."""
        self.recordings = [
            Recording(e["name"], e["split"], e["n_frames"], tuple(e["channels"]))
            for e in manifest["recordings"]
        ]
        space = manifest["label_space"]
        self.label_space = LabelSpace(
            name=space["name"],
            classes=tuple(space["classes"]),
            palette=tuple((r, g, b) for r, g, b in space["palette"]),
            flip_pairs=tuple((a, b) for a, b in space["flip_pairs"]),
        )
        self._n_frames = {recording.name: recording.n_frames for recording in self.recordings}
        self._files = {
            (channel, entry["name"]): self.folder / channel / entry["file"]
            for channel, content in self.manifests.items()
            for entry in content["recordings"]
        }

    @classmethod
    def open(cls, folder: Path, channels: Sequence[Channel]) -> "PreparedDataset":
        """Open `channels` of a prepared folder.

        Raises:
            DataError: a channel was never completely prepared, or a file is missing or of
                another size than when it was written.
        """
        manifests: dict[Channel, dict[str, Any]] = {}
        for channel in channels:
            path = folder / channel / "manifest.json"
            if not path.is_file():
                raise DataError(
                    f"{path} is missing: {channel} was not prepared; run `python run.py "
                    "stage=prepare` with the same dataset settings"
                )
            manifests[channel] = json.loads(path.read_text(encoding="utf-8"))
            for entry in manifests[channel]["recordings"]:
                file = folder / channel / entry["file"]
                found = file.stat().st_size if file.is_file() else None
                if found != entry["bytes"]:
                    raise DataError(
                        f"{file}: {'missing' if found is None else f'{found} bytes'}, expected "
                        f"{entry['bytes']} bytes; delete {path} and run stage=prepare again"
                    )
        return cls(folder, manifests)

    def verify(self) -> None:
        """Checksum test of every array file against its recorded SHA-256.

        Raises:
            DataError: a file's content changed.
        """
        for channel, manifest in self.manifests.items():
            for entry in manifest["recordings"]:
                file = self._files[channel, entry["name"]]
                if file_digest(file) != entry["sha256"]:
                    raise DataError(
                        f"{file}: its content is not what was prepared; delete it and "
                        f"{file.with_name('manifest.json')}, then run stage=prepare again"
                    )

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
        packed = self._map(self._files[channel, clip.recording])
        stop = clip.first + (length - 1) * clip.step + 1
        return packed[clip.first : stop : clip.step]

    def _map(self, path: Path) -> np.ndarray:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        # A plain array over the map: slicing np.memmap objects costs more than copying a clip.
        packed = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        self._open[path] = packed
        if len(self._open) > MAX_OPEN_FILES:
            self._open.popitem(last=False)
        return packed

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map copies its whole file; loader workers open their own.
        return {**self.__dict__, "_open": OrderedDict()}
