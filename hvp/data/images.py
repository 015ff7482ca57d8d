"""Image files: decoding and encoding of label maps and RGB, resizing and cropping."""

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hvp.errors import DataError
from hvp.files import atomic_path
from hvp.labels import LabelSpace, Size

NEAREST = Image.Resampling.NEAREST
"""Interpolation of label maps."""
BILINEAR = Image.Resampling.BILINEAR
"""Interpolation of RGB; Pillow antialiases when it downsamples."""


def _decode(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: the file is missing; restore it or leave the frame out"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded ({error}); it is truncated or not an image: copy it again"
        ) from error


def open_labels(path: Path) -> Image.Image:
    """Decode a label map: 8-bit single-channel PNG (mode L or P), pixel value = label id.

    Raises:
        DataError: the file is missing, damaged or of another format.
    """
    image = _decode(path)
    if image.format != "PNG" or image.mode not in ("L", "P"):
        raise DataError(
            f"{path}: a label map must be an 8-bit single-channel PNG (mode L or P), found "
            f"{image.format} of mode {image.mode}; save the ids themselves, not their colours"
        )
    return image


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


def open_rgb(path: Path) -> Image.Image:
    """Decode an image to RGB.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _decode(path).convert("RGB")


def image_size(path: Path) -> Size:
    """Height and width of an image, from its header alone.

    Raises:
        DataError: the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise DataError(f"{path}: cannot be opened as an image ({error}); copy it again") from error


def resize(image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
    """Resize to `size` (height, width); the aspect ratio may change."""
    height, width = size
    return image.resize((width, height), resample)


def resize_center_crop(image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
    """Resize to cover `size`, keeping the aspect ratio, and center-crop, in one resampling."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    top = max(0.0, (image.height - height / scale) / 2)
    left = max(0.0, (image.width - width / scale) / 2)
    box = (left, top, image.width - left, image.height - top)
    return image.resize((width, height), resample, box=box)
