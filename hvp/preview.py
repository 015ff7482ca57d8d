"""Validation preview: scores and videos of a few validation clips, for loggers.

Shapes: T time, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Column:
    """Column of a preview video: ground truth or one future, as label maps, RGB or both."""

    title: str
    """Heading: `ground truth`, `sample no. 2`."""
    labels_THW: np.ndarray | None = None
    """uint8 label ids, context first."""
    frames_THW3: np.ndarray | None = None
    """uint8 RGB, context first."""


@dataclass(frozen=True)
class ClipPreview:
    """Preview video of one clip: columns from left to right, ground truth first."""

    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class HorizonScores:
    """Curves of a score along the horizon, one per aggregate."""

    title: str
    """Name of the score in figures: `mIoU`."""
    lines: Mapping[str, np.ndarray]
    """Values (T,) by name of the aggregate: `mean of 3`, `best of 3`."""


@dataclass(frozen=True)
class Preview:
    """Result of `Model.preview`."""

    clips: tuple[ClipPreview, ...]
    context: int
    """Number of context frames at the start of every clip."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Scores logged as `val/<name>`; metrics for sweeps and best checkpoints."""
    horizon: Mapping[str, HorizonScores] = field(default_factory=dict)
    """Curves logged as `horizon/<name>`."""
    confusion: np.ndarray | None = None
    """Confusion matrix, int (C, C+1): rows true classes, columns predicted ones, last = none."""
