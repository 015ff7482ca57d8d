"""Systems: names of the evaluated models and of their baselines, as they stand in results."""

from collections.abc import Mapping

STRUCTURE_MODEL = "structure model"
IMAGE_MODEL = "image model"
COPY_LAST = "copy last frame"
ORACLE = "image model on ground-truth labels"
RECONSTRUCTION = "posterior reconstruction"
SVG_RGB = "SVG-LP on RGB"

MODELS: Mapping[str, str] = {"labels": STRUCTURE_MODEL, "frames": IMAGE_MODEL}
"""The evaluated model of each channel: label maps and RGB."""

SHORT = {
    ORACLE: "on true labels",
    RECONSTRUCTION: "posterior",
    SVG_RGB: "SVG-LP on RGB",
}
"""Column headings of the baselines other than copy-last-frame, in their order."""
