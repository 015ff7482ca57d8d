"""Cityscapes video reader (Cordts et al. 2016; leftImg8bit_sequence_trainvaltest).

    <root>/leftImg8bit_sequence/train/aachen/aachen_000000_000019_leftImg8bit.png
    <labels_root>/leftImg8bit_sequence/train/aachen/color_mask_aachen_000000_000019*.png
    <root>/gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png      optional

Config: `dataset=cityscapes`. A recording is one sequence of up to 30 consecutive frame numbers,
named `<city>_<sequence>_<first frame>`. The official validation cities are the test split and there
is no validation split; on request the official test cities are the test split and the validation
cities validate.

Dense label maps are given, or pseudo-labels where a sequence has none
(`hvp.data.segformer.extraction`). gtFine is the manual annotation of each sequence's 20th frame;
`gt_fine` uses it instead of that frame's dense label map. In test clips of the published rule
(frames 1, 4, ..., 28; 4 of context) it is the 7th frame, the third predicted one.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image

from hvp.data.images import resize
from hvp.data.readers.base import Skip, Split
from hvp.data.readers.exclusion import check_excluded, excludes
from hvp.data.readers.file_reader import FileReader, RecordingFiles, check_splits, split_at_gaps
from hvp.data.readers.media_files import found_instead
from hvp.data.segformer.extraction import LabelExtractor
from hvp.errors import ConfigError, DataError
from hvp.label_pictures import open_labels
from hvp.labels import CITYSCAPES, IGNORE, Size

_TREE = "leftImg8bit_sequence"
SEQUENCE_LENGTH = 30
"""Number of frames of one sequence."""

TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
"""Label id to train id, as published; other ids of 0..33 and -1 (255 in files) are `IGNORE`."""
_N_IDS = 34
_SEQUENCE = r"([^_.][^_]*_\d{6})_(\d{6})"
_ANNOTATION = re.compile(rf"{_SEQUENCE}_gtFine_labelIds\.png")
_LABELS = re.compile(rf"color_mask_{_SEQUENCE}.*\.png", re.IGNORECASE)
_FRAME = re.compile(rf"{_SEQUENCE}_leftImg8bit\.(?:png|jpe?g)", re.IGNORECASE)
_PACKAGE = re.compile(r"(leftImg8bit|rightImg8bit|gt[A-Z]|disparity|camera|vehicle|timestamp)\w*")
"""Folders that the other packages of the dataset unpack beside the sequences."""


class CityscapesReader(FileReader):
    """Reader of Cityscapes sequences with a dense label map for every frame."""

    name = "cityscapes"
    label_space = CITYSCAPES

    def __init__(
        self,
        root: str | Path,
        stored_size: Sequence[int],
        labels_root: str | Path | None = None,
        evaluate_on: Literal["val", "test"] = "val",
        gt_fine: Literal["none", "test", "all"] = "none",
        extract_labels: LabelExtractor | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        """Args:
        root: folder that holds `leftImg8bit_sequence`.
        stored_size: every image is resized to this height and width first, then to the target.
        labels_root: folder of the label maps, the same tree; None = also `root`.
        evaluate_on: official split to use as test split.
        gt_fine: splits in which gtFine replaces the dense label map of the annotated frame: none,
            test, or all. Its label ids are mapped to train ids, all others to `IGNORE`.
        extract_labels: pseudo-labels for sequences without label maps; None = they must be given.
        exclude: sequences to leave out, as `aachen_000000` or `aachen_*` (see `FileReader`).

        Raises:
            ConfigError: an unknown choice, or `gt_fine=test` with `evaluate_on=test`
                (these annotations are not public).
            DataError: a root does not exist.
        """
        super().__init__(root, labels_root, extract_labels, exclude)
        _check_choice("evaluate_on", evaluate_on, ("val", "test"))
        _check_choice("gt_fine", gt_fine, ("none", "test", "all"))
        if evaluate_on == "test" and gt_fine != "none":
            raise ConfigError(
                f"dataset.datamodule.gt_fine={gt_fine} with evaluate_on=test: the published gtFine "
                "of the test cities is blank; use evaluate_on=val or gt_fine=none"
            )
        annotated: dict[str, tuple[Split, ...]] = {"test": ("test",), "all": ("train", "test")}
        self.annotated = annotated.get(gt_fine, ())
        self.stored_size = (int(stored_size[0]), int(stored_size[1]))
        self.splits: dict[str, Split] = {"train": "train", evaluate_on: "test"}
        if evaluate_on == "test":
            self.splits["val"] = "val"
        self._excluded: dict[str, int] = {}

    def scan(self) -> list[RecordingFiles]:
        """Index the sequences of the official splits in use."""
        sources: list[RecordingFiles] = []
        for official, split in self.splits.items():
            for city in self._cities(official):
                sources += self._city(city, split)
        names = {*self._excluded, *(_sequence_of(source) for source in sources)}
        check_excluded(self.excluded_names, names, (self.root, self.labels_root))
        if not sources:
            raise DataError(
                f"{self.root}: no {_TREE}/<split>/<city> with images"
                f"{found_instead(self.root)}; point data_root at the folder that holds {_TREE}"
            )
        for split in self.annotated:
            of_split = [source for source in sources if source.recording.split == split]
            if not any(_is_annotation(file) for source in of_split for file in source.labels):
                raise DataError(
                    f"{self.root / 'gtFine'}: no *_gtFine_labelIds.png for the sequences of "
                    f"split {split!r}; unpack gtFine_trainvaltest there, or set "
                    "dataset.datamodule.gt_fine=none"
                )
        check_splits(sources, self.name, ("train", "test"))
        return sources

    def excluded(self) -> list[Skip]:
        """Excluded sequences, and those of the official splits that are not in use."""
        skips = []
        if self._excluded:
            reason = "excluded sequence (dataset.datamodule.exclude)"
            counts = self._excluded.values()
            skips.append(Skip(reason, tuple(sorted(self._excluded)), sum(counts)))
        for official in sorted({"train", "val", "test"} - set(self.splits)):
            frames: dict[str, dict[int, Path]] = {}
            for city in self._cities(official):
                frames |= _by_sequence(self.root / city, _FRAME)
            n_frames = sum(map(len, frames.values()))
            reason = f"official split {official!r} (dataset.datamodule.evaluate_on)"
            skips.append(Skip(reason, tuple(sorted(frames)), n_frames))
        return skips

    def enters(self, folder: PurePosixPath) -> bool:
        """See `FileReader`: not those of other packages and of official splits not in use."""
        package, *rest = folder.parts
        if package != _TREE:
            return not _PACKAGE.fullmatch(package)
        return not (len(rest) == 1 and rest[0] in {"train", "val", "test"} - set(self.splits))

    def _cities(self, official: str) -> list[Path]:
        """City folders of an official split, relative to a root."""
        tree = Path(_TREE) / official
        roots = {self.root, self.labels_root}
        return sorted({tree / city.name for root in roots for city in (root / tree).glob("*/")})

    def _city(self, folder: Path, split: Split) -> list[RecordingFiles]:
        all_labels = _by_sequence(self.labels_root / folder, _LABELS)
        all_frames = _by_sequence(self.root / folder, _FRAME)
        annotations: dict[str, dict[int, Path]] = {}
        if split in self.annotated:
            annotations = _by_sequence(
                self.root / "gtFine" / folder.relative_to(_TREE), _ANNOTATION
            )
        sources: list[RecordingFiles] = []
        sequences = sorted(all_labels.keys() | all_frames.keys())
        other = "" if sequences else found_instead(self.root / folder, self.labels_root / folder)
        if other:
            raise DataError(
                f"{self.root / folder}: no <city>_<6 digits>_<6 digits>_leftImg8bit.png and no "
                f"color_mask_<city>_<6 digits>_<6 digits>*.png{other}; name the files as published "
                "or move the folder away"
            )
        for sequence in sequences:
            labels, frames = all_labels.get(sequence, {}), all_frames.get(sequence, {})
            if excludes(self.excluded_names, sequence):
                self._excluded[sequence] = len(labels.keys() | frames.keys())
                self.explained.update(labels.values(), frames.values())
                continue
            extracted = not labels and self.extracted_root is not None
            if extracted and self.extracted_root is not None:
                tree = self.extracted_root / folder
                labels = {n: tree / f"color_mask_{file.stem}.png" for n, file in frames.items()}
            if not labels:
                known = [file for of_one in all_frames.values() for file in of_one.values()]
                raise DataError(
                    f"{self.labels_root / folder}: no label maps color_mask_{sequence}_<frame>"
                    f"*.png for its {len(frames)} frames"
                    f"{found_instead(self.labels_root / folder, but=known)}; set labels_root, "
                    "have them made (dataset.extract_labels), or exclude the sequence "
                    "(dataset.datamodule.exclude)"
                )
            pieces = split_at_gaps(sequence, split, labels, frames, extracted, SEQUENCE_LENGTH)
            for first, piece in pieces.items():
                named = piece.subset(f"{sequence}_{first:06d}", split)
                sources.append(_annotate(named, first, annotations.get(sequence, {})))
        return sources

    def decode_labels(self, path: Path) -> Image.Image:
        """Train ids: of a dense label map as stored, of gtFine by the official table."""
        if not _is_annotation(path):
            return super().decode_labels(path)
        ids = np.asarray(open_labels(path, None))  # not yet the ids of the classes
        unknown = np.unique(ids[(ids >= _N_IDS) & (ids != IGNORE)])
        if unknown.size:
            raise DataError(
                f"{path}: label ids {unknown.tolist()} are outside 0..{_N_IDS - 1} and -1 (255); "
                "expected gtFine's *_labelIds.png as published"
            )
        return Image.fromarray(_TRAIN_ID_TABLE[ids])

    def check_sizes(self, rgb: Size, labels: Size, where: str) -> None:
        """Aspect-ratio check: published label maps may be smaller than their frames."""
        if rgb[0] * labels[1] != rgb[1] * labels[0]:
            super().check_sizes(rgb, labels, where)

    def preprocessing(self) -> dict[str, Any]:
        """Resizing constants."""
        return {"rule": "cityscapes", "stored_size": list(self.stored_size)}

    def transform(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Two-step resize: to the stored size, then to `size`."""
        return resize(resize(image, self.stored_size, resample), size, resample)


def _train_id_table() -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    table[list(TRAIN_IDS)] = list(TRAIN_IDS.values())
    return table


_TRAIN_ID_TABLE = _train_id_table()


def _sequence_of(source: RecordingFiles) -> str:
    """`<city>_<sequence>` of a recording, which is called `<city>_<sequence>_<first frame>`."""
    return source.recording.name.rsplit("_", 1)[0]


def _is_annotation(path: Path) -> bool:
    return path.name.endswith("_gtFine_labelIds.png")


def _annotate(source: RecordingFiles, first: int, annotations: dict[int, Path]) -> RecordingFiles:
    """Recording from frame `first` on, with label maps of annotated frames replaced by gtFine."""
    labels = [annotations.get(first + i, label) for i, label in enumerate(source.labels)]
    return replace(source, labels=tuple(labels))


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"dataset.datamodule.{key}={value}: expected one of {', '.join(choices)}")


def _by_sequence(folder: Path, pattern: re.Pattern[str]) -> dict[str, dict[int, Path]]:
    """Files of a city, grouped by `<city>_<sequence>` and frame number."""
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
