"""Reading the clip store (`hvp.data.store` writes it).

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

_FRAMES_AT_ONCE = 16

MAX_OPEN_FILES = 256
"""Memory maps kept open per process; each holds a file descriptor."""


def store_digest(settings: dict[str, Any], size: Size | None = None) -> str:
    """Digest of a prepared dataset: equal exactly if frames, splits and size are."""
    return settings_digest({"store": STORE_VERSION, "settings": settings, "size": size})


def store_folder(data_dir: Path, dataset: str, settings: dict[str, Any], size: Size) -> Path:
    """Where a dataset prepared with `settings` at `size` lies."""
    return data_dir / f"{dataset}-{store_digest(settings)[:12]}" / f"{size[0]}x{size[1]}"


@dataclass
class PreparedDataset:
    """A prepared dataset: recordings, label space and random access to clips."""

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
        self.digest = store_digest(self.settings, self.size)
        """Settings digest: equal for two datasets exactly if their frames and splits are."""
        self.recordings = [
            Recording(e["name"], e["split"], e["n_frames"], tuple(e["channels"]))
            for e in manifest["recordings"]
        ]
        self._n_frames = {r.name: r.n_frames for r in self.recordings}
        space = manifest["label_space"]
        self.label_space = LabelSpace(
            name=space["name"],
            classes=tuple(space["classes"]),
            palette=tuple((r, g, b) for r, g, b in space["palette"]),
            flip_pairs=tuple((a, b) for a, b in space["flip_pairs"]),
        )
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
        """Compare every file with its recorded SHA-256.

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
        """Frames `first`, `first + step`, ... of a clip: `length` of them, or fewer at its end.

        Returns:
            A copy: labels (T, H, W) uint8, frames (T, 3, H, W) uint8 or flow (T, 2, H, W) float32.
            Flow is to the previous RECORDED frame, whatever the clip's step.
        """
        return np.array(self._view(channel, clip, length))

    def recorded_length(self, clip: ClipId, length: int) -> int:
        """How many of a clip's `length` frames were recorded: fewer where the recording ends."""
        total = self._n_frames[clip.recording]
        return min(length, -(-(total - clip.first) // clip.step))

    def stream(self, channel: Channel, clip: ClipId, length: int) -> Iterator[np.ndarray]:
        """The frames of a clip until it or its recording ends, in constant memory.

        Yields:
            Labels (H, W) or RGB (H, W, 3) uint8.
        """
        n_frames = self.recorded_length(clip, length)
        for t in range(0, n_frames, _FRAMES_AT_ONCE):
            piece = ClipId(clip.recording, clip.first + t * clip.step, clip.step)
            frames = self.read(channel, piece, min(_FRAMES_AT_ONCE, n_frames - t))
            yield from frames if channel == "labels" else frames.transpose(0, 2, 3, 1)

    def gather(self, channel: Channel, clips: Sequence[ClipId], length: int) -> np.ndarray:
        """`length` frames of each of `clips`, copied once from the map: `read` with a leading B.

        Raises:
            ValueError: the clips are not equally long.
        """
        return np.stack([self._view(channel, clip, length) for clip in clips])

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
        # A memory map pickles as a full copy of its file; data workers open their own.
        return {**self.__dict__, "_open": OrderedDict()}
