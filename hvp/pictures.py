"""Image files: decoding as a viewer shows them, and conversion to 8-bit RGB."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hvp.errors import DataError
from hvp.files import open_regular


@dataclass(frozen=True)
class Picture:
    """A decoded image file, turned upright (EXIF orientation)."""

    image: Image.Image
    format: str
    """Pillow's name of the file format (PNG, JPEG)."""
    stored: str
    """Pillow's mode of the file's own pixels, with their bits (`L;4`, `RGB;16B`)."""


def open_picture(path: Path) -> Picture:
    """Decode an image file; its pixels are not converted.

    The checksums of a PNG are verified first: its pixels decode to something without them, too.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with open_regular(path) as file:
            with Image.open(file) as image:
                if image.format == "PNG":
                    image.verify()
            file.seek(0)
            image = Image.open(file)
            stored = image.tile[0][3] if image.format == "PNG" and image.tile else image.mode
            image_format = str(image.format)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return Picture(image, image_format, str(stored))
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: the file is missing; restore it or leave the frame out"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded ({error}); it is truncated or not an image: copy it again"
        ) from error


def open_rgb(path: Path) -> Image.Image:
    """Decode an image to 8-bit RGB; 16-bit PNGs by the high byte, opaque alpha is dropped.

    Raises:
        DataError: the file is missing or damaged, has transparent pixels, or values that have no
            one right conversion (floating point, CMYK).
    """
    picture = open_picture(path)
    image = picture.image
    if "16" in picture.stored and "transparency" in image.info:
        raise DataError(
            f"{path}: a 16-bit {picture.format} with a transparent colour; expected an opaque "
            "picture: save it as 8-bit RGB without transparency"
        )
    if image.mode.startswith("I;16") or (image.mode == "I" and picture.format == "PNG"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA"):
        raise DataError(
            f"{path}: expected 8-bit RGB or greyscale, found {picture.format} of mode "
            f"{image.mode}, which has no one right conversion; save the picture as 8-bit RGB"
        )
    if image.has_transparency_data:
        lowest = image.convert("RGBA").getchannel("A").getextrema()[0]
        if lowest != 255:
            raise DataError(
                f"{path}: has transparent pixels (alpha down to {lowest} of 255), and what is "
                "behind them is unknown; save the picture without transparency"
            )
    return image.convert("RGB")
