"""Cityscapes video (Cordts et al. 2016; leftImg8bit_sequence_trainvaltest): `dataset=cityscapes`.

    <root>/leftImg8bit_sequence/train/aachen/aachen_000000_000019_leftImg8bit.png
    <labels_root>/leftImg8bit_sequence/train/aachen/color_mask_aachen_000000_000019*.png

A recording is one run of consecutive frame numbers (30 frames, unless two touch), called
`<city>_<sequence>_<first frame>`. The official validation cities are the test split (`val` here
is empty); on request the official test cities are, and the validation cities validate.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from hvp.data.file_reader import FileReader, Source, require_every_split, split_at_gaps
from hvp.data.pictures import stretch
from hvp.data.readers import Size, Split
from hvp.errors import DataError
from hvp.labels import CITYSCAPES

_TREE = "leftImg8bit_sequence"
_LABELS = re.compile(r"color_mask_([a-z-]+_\d{6})_(\d{6}).*\.png")
_FRAME = re.compile(r"([a-z-]+_\d{6})_(\d{6})_leftImg8bit\.png")


class CityscapesReader(FileReader):
    """Cityscapes sequences with dense label maps for every frame."""

    name = "cityscapes"
    label_space = CITYSCAPES

    def __init__(
        self,
        root: str | Path,
        stored_size: Sequence[int],
        labels_root: str | Path | None = None,
        evaluate_on: Literal["val", "test"] = "val",
    ) -> None:
        """Args:
        root: folder that holds `leftImg8bit_sequence`.
        stored_size: every picture is resized to this height and width first, then to the target.
        labels_root: folder of the label maps, the same tree; None = also `root`.
        evaluate_on: official split that becomes the test split.

        Raises:
            DataError: a root does not exist.
        """
        super().__init__(root, labels_root)
        self.stored_size = (int(stored_size[0]), int(stored_size[1]))
        self.splits: dict[str, Split] = {"train": "train", evaluate_on: "test"}
        if evaluate_on == "test":
            self.splits["val"] = "val"

    def scan(self) -> list[Source]:
        """Find the sequences of the official splits in use."""
        sources: list[Source] = []
        for official, split in self.splits.items():
            cities = {
                folder.name
                for root in {self.root, self.labels_root}
                for folder in (root / _TREE / official).glob("*/")
            }
            for city in sorted(cities):
                sources += self._city(Path(_TREE) / official / city, split)
        if not sources:
            raise DataError(
                f"{self.root}: no {_TREE}/<split>/<city> with pictures; point data_root at the "
                f"folder that holds {_TREE}"
            )
        require_every_split(sources, self.name, ("train", "test"))
        return sources

    def _city(self, folder: Path, split: Split) -> list[Source]:
        all_labels = _by_sequence(self.labels_root / folder, _LABELS)
        all_frames = _by_sequence(self.root / folder, _FRAME)
        sources: list[Source] = []
        for sequence in sorted(all_labels.keys() | all_frames.keys()):
            labels = all_labels.get(sequence, {})
            if not labels:
                raise DataError(
                    f"{self.labels_root / folder}: no label maps color_mask_{sequence}_<frame>"
                    "*.png for its frames; set labels_root or make them"
                )
            pieces = split_at_gaps(sequence, split, labels, all_frames.get(sequence, {}))
            for first, piece in pieces.items():
                name = f"{sequence}_{first:06d}"
                sources.append(Source.of(name, split, piece.labels, piece.frames))
        return sources

    def check_same_view(self, rgb: Size, labels: Size, path: Path) -> None:
        """Published label maps are smaller than the frames; only the aspect must agree."""
        if rgb[0] * labels[1] != rgb[1] * labels[0]:
            super().check_same_view(rgb, labels, path)

    def preprocessing(self) -> dict[str, Any]:
        """How pictures are resized."""
        return {"rule": "cityscapes", "stored_size": list(self.stored_size)}

    def view(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Resize to the stored size, then to `size`."""
        return stretch(stretch(image, self.stored_size, resample), size, resample)


def _by_sequence(folder: Path, pattern: re.Pattern[str]) -> dict[str, dict[int, Path]]:
    """Files of a city by `<city>_<sequence>`, then by frame number."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    if not folder.is_dir():
        return found
    for file in sorted(folder.iterdir()):
        if match := pattern.fullmatch(file.name):
            sequence, number = match[1], int(match[2])
            if number in found[sequence]:
                other = found[sequence][number].name
                raise DataError(
                    f"{file}: frame {number} of {sequence} is there twice (also {other}); "
                    "remove one"
                )
            found[sequence][number] = file
    return found
