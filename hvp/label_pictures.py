"""Label map PNGs: decoding to label ids, and encoding with the colours of the classes.

The value of a pixel is its label id. A palette is decoration, with one exception: where the colours
in use are colours of the classes in another order, the ids were numbered per file (as programs do
that save a colourised map with a palette), and the colours tell the classes.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hvp.errors import DataError
from hvp.files import atomic_path
from hvp.labels import IGNORE, LabelSpace
from hvp.pictures import Picture, open_picture

_SCALED = {"1": 255, "L;2": 85, "L;4": 17}
"""Factors by which Pillow brightens grey pixels of less than 8 bits."""

_Colour = tuple[int, int, int]
_PADDING = ((0, 0, 0), (255, 255, 255))
"""Colours that programs fill unused palette entries with."""


def open_labels(path: Path, space: LabelSpace | None) -> Image.Image:
    """Decode a label map (single-channel PNG, grey or palette) to an image of ids, mode L or P.

    Args:
        path: the PNG.
        space: classes of the ids; None = ids of another numbering, whose palette says nothing.

    Raises:
        DataError: the file is missing, damaged or of another format, or its palette contradicts
            the classes.
    """
    picture = open_picture(path)
    image = picture.image
    if picture.format == "PNG" and image.mode == "P":
        table = None if space is None else _by_colour(path, image, space)
        return image if table is None else Image.fromarray(table[np.asarray(image)])
    if picture.format == "PNG" and picture.stored == "L":
        return image
    if picture.format == "PNG" and picture.stored in _SCALED:
        return Image.fromarray(np.asarray(image.convert("L")) // _SCALED[picture.stored])
    if picture.format == "PNG" and picture.stored.startswith("I;16"):
        return _narrowed(path, picture)
    raise DataError(
        f"{path}: a label map must be a single-channel PNG (mode L or P), found "
        f"{picture.format} of mode {image.mode}; save the ids themselves, not their colours"
    )


def _narrowed(path: Path, picture: Picture) -> Image.Image:
    """Ids of 16 bits as ids of 8 bits, where they fit."""
    ids = np.asarray(picture.image)
    if ids.max() > IGNORE:
        raise DataError(
            f"{path}: a 16-bit label map with the value {ids.max()}; expected label ids up to "
            f"{IGNORE}: save the ids themselves as 8-bit PNG"
        )
    return Image.fromarray(ids.astype(np.uint8))


def _by_colour(path: Path, image: Image.Image, space: LabelSpace) -> np.ndarray | None:
    """Lookup table (256,) uint8 from palette index to class id, or None where these are the same.

    Raises:
        DataError: the palette has colours of classes at other ids, but does not tell the classes.
    """
    channels = image.getpalette("RGB") or []
    palette = [(r, g, b) for r, g, b in zip(*[iter(channels)] * 3, strict=True)]
    if tuple(palette[: space.n_classes]) == space.palette[: len(palette)]:
        return None
    if not set(palette) & set(space.palette):
        return None
    # IGNORE is ignored under any colour.
    used = {i: palette[i] for i in _used_ids(image) if i != IGNORE and i < len(palette)}
    moved = {i for i, colour in used.items() if _is_moved(i, colour, space)}
    unknown = {i for i, colour in used.items() if colour not in space.palette}
    foreign = unknown | {
        i
        for i, colour in enumerate(palette)
        if i not in used and colour not in (*space.palette, *_PADDING) and colour != (i, i, i)
    }
    # Nearly every palette begins with black, also one that has nothing to do with the classes.
    if foreign and moved == {0} and used[0] == (0, 0, 0) and len(unknown) == len(used) - 1:
        return None
    if not moved:
        return None
    classes = [space.palette.index(colour) for colour in used.values() if colour in space.palette]
    shared = [c for c in used.values() if space.palette.count(c) > 1]
    if foreign or shared or len(set(classes)) < len(classes):
        example = min(moved)
        raise DataError(
            f"{path}: its palette gives id {example} the colour {list(used[example])} of class "
            f"{space.classes[space.palette.index(used[example])]!r} ({space.name}), but not each "
            "of its colours belongs to one class; expected ids in the order of the classes, or "
            "the colours of classes alone: save the ids as greyscale PNG"
        )
    table = np.arange(256, dtype=np.uint8)
    table[list(used)] = classes
    return table


def _used_ids(image: Image.Image) -> list[int]:
    return [i for i, count in enumerate(image.histogram()) if count]


def _is_moved(index: int, colour: _Colour, space: LabelSpace) -> bool:
    """Whether `colour` is that of a class, but not of the class `index`."""
    return colour in space.palette and space.palette[index : index + 1] != (colour,)


def save_labels(
    path: Path, labels: np.ndarray, space: LabelSpace, text: dict[str, str] | None = None
) -> None:
    """Write a label map (H, W) uint8 as palette PNG (mode P, colours of `space`), atomically.

    `text` goes into the PNG's text chunks (`Image.open(path).info`).
    """
    image = Image.fromarray(labels)
    image.putpalette(space.colourise(np.arange(256)).tobytes())
    header = PngInfo()
    for key, value in (text or {}).items():
        header.add_text(key, value)
    with atomic_path(path) as temporary:
        image.save(temporary, pnginfo=header)
