"""Label spaces of semantic label maps: class names, colour palette, left/right pairs.

A label map is (H, W) uint8 with ids 0..C-1; `IGNORE` (255) marks pixels without ground truth.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvp.errors import DataError
from hvp.files import read_json
from hvp.records import parse

IGNORE = 255
"""Ignore index: pixels without ground truth."""

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class LabelSpace:
    """Classes of a dataset's semantic label maps."""

    name: str
    """Name for messages and reports."""
    classes: tuple[str, ...]
    """Class names; the index is the label id."""
    palette: tuple[tuple[int, int, int], ...]
    """RGB colour of each class, 0..255."""
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Ids that swap in a horizontal flip (left hand, right hand)."""

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise DataError(
                f"label space {self.name!r}: {len(self.classes)} class names but "
                f"{len(self.palette)} palette colours; give one colour per class"
            )
        if not 1 <= len(self.classes) <= IGNORE:
            raise DataError(
                f"label space {self.name!r}: {len(self.classes)} classes, expected 1 to {IGNORE} "
                f"(ids are one byte, {IGNORE} is ignored); merge or remove classes"
            )
        for i, name in enumerate(self.classes):
            if not name.strip() or not name.isprintable() or name in self.classes[:i]:
                wrong = "has two classes" if name in self.classes[:i] else "has a class"
                raise DataError(
                    f"label space {self.name!r}: {wrong} called {name!r:.80}; give each class a "
                    "name of its own, of printable characters"
                )
        for name, colour in zip(self.classes, self.palette, strict=True):
            if not all(0 <= channel <= 255 for channel in colour):
                raise DataError(
                    f"label space {self.name!r}: class {name!r} has the color {list(colour)}; "
                    "expected [red, green, blue], each from 0 to 255"
                )
        beyond = [i for pair in self.flip_pairs for i in pair if not 0 <= i < len(self.classes)]
        if beyond:
            raise DataError(
                f"label space {self.name!r}: flip_pairs name the id {beyond[0]}; expected ids from "
                f"0 to {len(self.classes) - 1}, positions in the list of classes"
            )
        paired = [i for pair in self.flip_pairs for i in pair]
        if len(set(paired)) < len(paired):
            twice = next(i for n, i in enumerate(paired) if i in paired[:n])
            raise DataError(
                f"label space {self.name!r}: flip_pairs name the id {twice} twice; expected "
                "pairs of two different ids, each id in one pair"
            )

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return len(self.classes)

    def flip_table(self) -> np.ndarray:
        """Lookup table (256,) uint8 of a horizontal flip: swaps left and right ids."""
        table = np.arange(256, dtype=np.uint8)
        for left, right in self.flip_pairs:
            table[left], table[right] = right, left
        return table

    def colourise(self, labels: np.ndarray) -> np.ndarray:
        """Palette lookup: labels (..., H, W) uint8 to RGB (..., H, W, 3) uint8; `IGNORE`: black."""
        table = np.zeros((256, 3), np.uint8)
        table[: self.n_classes] = np.asarray(self.palette, np.uint8)
        return table[labels]

    def check(self, labels: np.ndarray, where: str) -> None:
        """Validate label ids: each is a class or `IGNORE`.

        Raises:
            DataError: another id; the message names `where`.
        """
        found = np.unique(labels)
        bad = found[(found >= self.n_classes) & (found != IGNORE)]
        if bad.size:
            raise DataError(
                f"{where}: label ids {bad.tolist()} are outside 0..{self.n_classes - 1} "
                f"({self.name}, {IGNORE} = ignore); convert the maps or give their class file"
            )


CITYSCAPES = LabelSpace(
    name="cityscapes",
    classes=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
        "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
        "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
        (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
        (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip

DENSEPOSE = LabelSpace(
    name="densepose",
    classes=(
        "background", "torso back", "torso front", "hand R", "hand L", "foot L", "foot R",
        "upper leg R back", "upper leg L back", "upper leg R front", "upper leg L front",
        "lower leg R back", "lower leg L back", "lower leg R front", "lower leg L front",
        "upper arm L front", "upper arm R front", "upper arm L back", "upper arm R back",
        "lower arm L front", "lower arm R front", "lower arm L back", "lower arm R back",
        "head R", "head L",
    ),
    palette=(
        (0, 0, 0), (70, 60, 160), (90, 90, 200), (255, 200, 60), (60, 200, 255), (60, 120, 255),
        (255, 140, 60), (190, 60, 60), (60, 160, 190), (220, 80, 80), (80, 190, 220),
        (150, 40, 90), (40, 120, 120), (180, 60, 110), (60, 150, 150), (90, 210, 120),
        (230, 210, 90), (70, 180, 100), (200, 180, 70), (130, 230, 170), (245, 230, 140),
        (110, 200, 150), (220, 200, 110), (240, 170, 190), (200, 170, 240),
    ),
    flip_pairs=(
        (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20),
        (21, 22), (23, 24),
    ),
)  # fmt: skip

_BUILT_IN = {space.name: space for space in (CITYSCAPES, DENSEPOSE)}


@dataclass(frozen=True)
class _FileClass:
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class _ClassFile:
    classes: tuple[_FileClass, ...]
    flip_pairs: tuple[tuple[int, int], ...] = ()


def load_label_space(source: str | Path) -> LabelSpace:
    """Label space by name (`cityscapes`, `densepose`) or from a class file.

    A class file is JSON: `{"classes": [{"name": "road", "color": [128, 64, 128]}, ...],
    "flip_pairs": [[3, 4]]}`; the position in the list is the label id, `flip_pairs` is optional.

    Raises:
        DataError: the file is missing or not of that form.
    """
    if str(source) in _BUILT_IN:
        return _BUILT_IN[str(source)]
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"label classes {str(source)!r}: neither a built-in label space "
            f"({', '.join(_BUILT_IN)}) nor a class file; see the README, 'Your own data'"
        )
    remedy = (
        'expected {"classes": [{"name": "road", "color": [128, 64, 128]}, ...], "flip_pairs": '
        "[[3, 4]]}"
    )
    content = read_json(path, DataError, remedy)
    try:
        file = parse(_ClassFile, content)
    except ValueError as error:
        raise DataError(f"{path}: not a class file ({error}); {remedy}") from error
    return LabelSpace(
        name=path.stem,
        classes=tuple(entry.name for entry in file.classes),
        palette=tuple(entry.color for entry in file.classes),
        flip_pairs=file.flip_pairs,
    )
