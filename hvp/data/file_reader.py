"""What the readers of picture files share: finding, pairing, decoding and naming them.

Shapes: H height, W width.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hvp.data.pictures import BILINEAR, NEAREST, open_labels, open_rgb, picture_size
from hvp.data.readers import Channel, Recording, Size, Split, runs, source_digest
from hvp.errors import DataError
from hvp.labels import LabelSpace


@dataclass(frozen=True)
class Source:
    """A recording and the files of its frames, in order."""

    recording: Recording
    labels: tuple[Path, ...]
    """Label map of every frame."""
    frames: tuple[Path, ...]
    """RGB of every frame, or empty."""

    @classmethod
    def of(
        cls, name: str, split: Split, labels: Sequence[Path], frames: Sequence[Path] = ()
    ) -> "Source":
        """A recording called `name` from its files."""
        channels: tuple[Channel, ...] = ("labels", "frames") if frames else ("labels",)
        recording = Recording(name, split, len(labels), channels)
        return cls(recording, tuple(labels), tuple(frames))


class FileReader(ABC):
    """A `Reader` of picture files; a dataset adds where they lie (`scan`) and how they are cut."""

    name: str
    label_space: LabelSpace

    def __init__(self, root: str | Path, labels_root: str | Path | None = None) -> None:
        """Args:
        root: folder of the raw dataset.
        labels_root: folder of the label maps; None = also `root`.

        Raises:
            DataError: one of the folders does not exist.
        """
        self.root = Path(root)
        self.labels_root = Path(root if labels_root is None else labels_root)
        for folder in (self.root, self.labels_root):
            if not folder.is_dir():
                raise DataError(
                    f"dataset {self.name!r}: {folder} is not a folder; point data_root (and "
                    "labels_root, where the label maps lie elsewhere) at the dataset"
                )

    @abstractmethod
    def scan(self) -> list[Source]:
        """Find every recording and its files."""

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """The constants of `view`, as plain JSON values."""

    @abstractmethod
    def view(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Cut and resize one decoded picture to `size`."""

    def decode_labels(self, path: Path) -> Image.Image:
        """Decode one label map to a picture of label ids."""
        return open_labels(path)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Every recording's files by its name."""
        found = self.scan()
        if not found:
            raise DataError(f"dataset {self.name!r}: no recording with label maps in {self.root}")
        return {source.recording.name: source for source in found}

    def recordings(self) -> list[Recording]:
        """All recordings, in the order of `scan`."""
        return [source.recording for source in self.sources.values()]

    @cached_property
    def _settings(self) -> dict[str, Any]:
        labels = [(self.labels_root, f) for source in self.sources.values() for f in source.labels]
        frames = [(self.root, f) for source in self.sources.values() for f in source.frames]
        return {
            "reader": self.name,
            "label_space": asdict(self.label_space),
            "preprocessing": self.preprocessing(),
            "recordings": [[r.name, r.split, r.n_frames] for r in self.recordings()],
            "source": source_digest(labels + frames),
        }

    def settings(self) -> dict[str, Any]:
        """Everything the prepared data depends on, as plain JSON values."""
        return self._settings

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        """Yield the preprocessed frames of `recording`; see `hvp.data.readers.Reader`."""
        source = self.sources[recording.name]
        for index, label_path in enumerate(source.labels):
            arrays: dict[Channel, np.ndarray] = {}
            if "labels" in channels:
                labels = self.view(self.decode_labels(label_path), size, NEAREST)
                arrays["labels"] = np.asarray(labels)
            if "frames" in channels:
                rgb = open_rgb(source.frames[index])
                self.check_same_view(
                    (rgb.height, rgb.width), picture_size(label_path), source.frames[index]
                )
                arrays["frames"] = np.asarray(self.view(rgb, size, BILINEAR))
            yield arrays

    def check_same_view(self, rgb: Size, labels: Size, path: Path) -> None:
        """Raise `DataError` when a frame and its label map cannot show the same picture."""
        if rgb != labels:
            raise DataError(
                f"{path}: RGB is {rgb[0]}x{rgb[1]} but its label map is {labels[0]}x{labels[1]} "
                "(height x width); make the label maps at the size of the RGB frames"
            )

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        """The file of one frame."""
        source = self.sources[recording.name]
        return str((source.frames if channel == "frames" else source.labels)[frame])


def require_every_split(sources: Sequence[Source], dataset: str, wanted: Sequence[Split]) -> None:
    """Raise `DataError` when a split of `wanted` has no recording."""
    found = {source.recording.split for source in sources}
    for split in wanted:
        if split not in found:
            raise DataError(
                f"dataset {dataset!r}: no recording in split {split!r} "
                f"(found {len(sources)} recordings); check data_root and the split's names"
            )


def numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Files of a folder (none if it does not exist) by the number that `pattern` captures.

    Raises:
        DataError: two files have the same number.
    """
    found: dict[int, Path] = {}
    if not folder.is_dir():
        return found
    for file in sorted(folder.iterdir()):
        if match := pattern.fullmatch(file.name):
            number = int(match[1])
            if number in found:
                raise DataError(
                    f"{file}: frame {number} is there twice (also {found[number].name}); remove one"
                )
            found[number] = file
    return found


def split_at_gaps(
    name: str, split: Split, labels: dict[int, Path], frames: dict[int, Path]
) -> dict[int, Source]:
    """Recordings of consecutive frames from files by frame number; keys are the first numbers.

    Without a gap there is one, called `name`; else each is called `<name>-<first frame>`.

    Raises:
        DataError: there are RGB frames, but not of the same numbers as the label maps.
    """
    lone = sorted(labels.keys() ^ frames.keys()) if frames else []
    if lone:
        has, lacks = ("a label map", "RGB") if lone[0] in labels else ("RGB", "label map")
        raise DataError(
            f"{name}: {len(labels)} label maps but {len(frames)} RGB frames; frame {lone[0]} has "
            f"{has} but no {lacks}; complete or remove it"
        )
    numbers = sorted(labels)
    pieces = [numbers[piece] for piece in runs(numbers)]
    return {
        piece[0]: Source.of(
            name if len(pieces) == 1 else f"{name}-{piece[0]:06d}",
            split,
            [labels[n] for n in piece],
            [frames[n] for n in piece] if frames else (),
        )
        for piece in pieces
    }
