"""Resizing and cropping of label maps and RGB."""

from PIL import Image

from hvp.labels import Size

NEAREST = Image.Resampling.NEAREST
"""Interpolation of label maps."""
BILINEAR = Image.Resampling.BILINEAR
"""Interpolation of RGB; Pillow antialiases when it downsamples."""


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
