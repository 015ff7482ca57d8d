"""Preview: what a model makes of a few validation clips, as scalars and pictures for loggers.

Shapes: T time, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Column:
    """One future of a clip (or the truth): as label maps, as RGB, or both."""

    title: str
    """What it is called: `ground truth`, `sample no. 2`."""
    labels_THW: np.ndarray | None = None
    """uint8 label ids, context first."""
    frames_THW3: np.ndarray | None = None
    """uint8 RGB, context first."""


@dataclass(frozen=True)
class ClipPreview:
    """What is shown of one clip, from left to right; the truth comes first."""

    name: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class HorizonScores:
    """A score at every predicted step, of one or more aggregates."""

    title: str
    """What people call it: `mIoU`."""
    lines: Mapping[str, np.ndarray]
    """Values (T,) by what they are an aggregate of: `mean of 3`, `best of 3`."""


@dataclass(frozen=True)
class Preview:
    """What `Model.preview` gives."""

    clips: tuple[ClipPreview, ...]
    context: int
    """True frames at the beginning of every clip."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Logged as `val/<name>`, and what sweeps and best checkpoints may go by."""
    horizon: Mapping[str, HorizonScores] = field(default_factory=dict)
    """Logged as `horizon/<name>`."""
    confusion: np.ndarray | None = None
    """int (C, C+1): row true class, column predicted, the last one predicted none."""
