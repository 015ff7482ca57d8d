"""Reader of numbered frames, and writers of small label maps and RGB images."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hvp.clips import Channel
from hvp.data.datamodule import ClipDataModule
from hvp.data.readers.base import Recording, Skip
from hvp.labels import CITYSCAPES, LabelSpace, Size

PAIRS = LabelSpace(
    name="pairs",
    classes=("background", "left", "right"),
    palette=((0, 0, 0), (255, 0, 0), (0, 0, 255)),
    flip_pairs=((1, 2),),
)


class NumberedReader:
    """Frame t of recording r: labels are t % 19, RGB is (t, r, column), flow is (t, -t)."""

    name = "numbered"
    label_space = CITYSCAPES

    def __init__(self, recordings: Sequence[Recording], version: int = 0) -> None:
        self._recordings = list(recordings)
        self.version = version
        self.opened: list[tuple[str, Channel]] = []

    def settings(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "recordings": [asdict(recording) for recording in self._recordings],
        }

    def recordings(self) -> list[Recording]:
        return self._recordings

    def skipped(self) -> list[Skip]:
        return [Skip("odd", ("odd/0", "odd/1"), 7)]

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        self.opened += [(recording.name, channel) for channel in channels]
        index = self._recordings.index(recording)
        for t in range(recording.n_frames):
            frames = np.empty((*size, 3), np.uint8)
            frames[..., 0], frames[..., 1], frames[..., 2] = t, index, np.arange(size[1])
            arrays: dict[Channel, np.ndarray] = {
                "labels": np.full(size, t % 19, np.uint8),
                "frames": frames,
                "flow": np.stack([np.full(size, t), np.full(size, -t)]).astype(np.float32),
            }
            yield {channel: arrays[channel] for channel in channels}

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        return f"{recording.name} {channel} {frame}"


@dataclass(kw_only=True, eq=False, repr=False)
class NumberedDataModule(ClipDataModule):
    recorded: Sequence[Recording]

    def make_reader(self) -> NumberedReader:
        return NumberedReader(self.recorded)


def recordings(*, train: int = 3, val: int = 1, test: int = 1, frames: int = 12) -> list[Recording]:
    counts = {"train": train, "val": val, "test": test}
    return [
        Recording(f"{split}/{i}", split, frames, ("labels", "frames", "flow"))
        for split, count in counts.items()
        for i in range(count)
    ]


def write_labels(path: Path, size: Size, value: int = 0, mode: str = "L") -> None:
    """A label map of ids value, value + 1, ... in vertical stripes (0..18)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stripes = (np.arange(size[1]) // 4 + value) % 19
    image = Image.fromarray(np.broadcast_to(stripes, size).astype(np.uint8))
    if mode == "P":
        image.putpalette([colour for rgb in CITYSCAPES.palette for colour in rgb])
    image.save(path)


def write_rgb(path: Path, size: Size, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), (value % 256, 10, 20)).save(path)
