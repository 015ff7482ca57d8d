"""Curves along the horizon: scores of single frames and of windows of frames, and their averages.

Shapes: T horizon (predicted steps), M measured steps (up to the end of the longest ground truth),
G points. Steps are counted from 1: step 1 is the first predicted frame.
"""

import math
from dataclasses import dataclass

import numpy as np

MEAN = "mean"
BEST = "best-of-S"


@dataclass(frozen=True)
class Window:
    """A range of predicted steps, both ends included."""

    name: str
    """`near`, `middle`, `far`, `all`, `trained`, `beyond` or `step`."""
    first: int
    """First step, counted from 1."""
    last: int
    """Last step."""

    @property
    def steps(self) -> str:
        """The range for people: `3` or `1-15`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def windows(measured: int, trained: int) -> list[Window]:
    """The windows that curves are averaged over.

    Args:
        measured: steps for which any clip has ground truth; the horizon where the ground truth is
            long enough. Thirds of the whole horizon would be empty where the roll-out passes the
            end of the ground truth, as in KITTI.
        trained: steps that training went through.

    Returns:
        `near`, `middle` and `far` (thirds of the measured steps; fewer when there are fewer than
        three), `all`, `trained` and, if it exists, `beyond` (the trained horizon).

    Example:
        >>> [f"{window.name} {window.steps}" for window in windows(measured=20, trained=15)]
        ['near 1-7', 'middle 8-14', 'far 15-20', 'all 1-20', 'trained 1-15', 'beyond 16-20']
    """
    if measured == 0:
        return []
    thirds = np.array_split(np.arange(1, measured + 1), 3)
    found = [
        Window(name, int(steps[0]), int(steps[-1]))
        for name, steps in zip(("near", "middle", "far"), thirds, strict=True)
        if steps.size
    ]
    found.append(Window("all", 1, measured))
    found.append(Window("trained", 1, min(trained, measured)))
    if measured > trained:
        found.append(Window("beyond", trained + 1, measured))
    return found


@dataclass(frozen=True)
class Curve:
    """One metric of one system against the horizon."""

    system: str
    """One of `hvp.evaluation.systems`: `STRUCTURE_MODEL`, `COPY_LAST`, ..."""
    metric: str
    """Name of the metric, as its `MetricInfo` says: `miou`, `psnr`, ..."""
    aggregate: str
    """`MEAN` (over samples) or `BEST` (of S samples per clip)."""
    values: np.ndarray
    """float64 (M,): mean over clips at each step up to the last with ground truth, M <= T; NaN
    where no clip has any."""
    clips: np.ndarray
    """int64 (M,): clips with ground truth at each step; of a class, with that class in it."""
    class_name: str = ""
    """The class of the label maps that the scores are of; empty for those of all."""

    @classmethod
    def measured_part(
        cls,
        system: str,
        metric: str,
        aggregate: str,
        values_T: np.ndarray,
        clips_T: np.ndarray,
        class_name: str = "",
    ) -> "Curve":
        """The curve without the steps behind the end of all ground truth."""
        steps = np.flatnonzero(clips_T)
        measured = slice(int(steps[-1]) + 1 if steps.size else 0)
        # Copied: a view would keep the whole horizon in memory.
        parts = values_T[measured].copy(), clips_T[measured].copy()
        return cls(system, metric, aggregate, *parts, class_name)

    @property
    def measured(self) -> int:
        """The last step at which any clip has ground truth."""
        steps = np.flatnonzero(self.clips)
        return int(steps[-1]) + 1 if steps.size else 0

    def average(self, window: Window) -> float:
        """Mean over all frames with ground truth within `window`; every frame counts the same."""
        steps = slice(window.first - 1, window.last)
        clips = self.clips[steps]
        if not clips.sum():
            return math.nan
        return float(np.where(clips > 0, self.values[steps], 0.0) @ clips / clips.sum())


@dataclass(frozen=True)
class Series:
    """One metric of one system that compares sets of frames: a value for each of G windows."""

    system: str
    """As in `Curve`."""
    metric: str
    """Name of the metric, as its `MetricInfo` says: `sliding_fvd`, `class_drift`, ..."""
    values: np.ndarray
    """float64 (G,); NaN where there is too little to compare."""
    first: np.ndarray
    """int64 (G,): first predicted step of the frames that a value is made from."""
    last: np.ndarray
    """int64 (G,): last step of them, included."""
    windows: np.ndarray
    """int64 (G,): windows of `metric_window` frames (see the protocol) that a value is made from,
    over clips and samples."""
    real_windows: int
    """Windows of real video that every value is compared with."""

    def ends(self) -> tuple[int, int] | None:
        """Indices of the first and the last point with a value; None where no point has one."""
        known = np.flatnonzero(~np.isnan(self.values))
        return (int(known[0]), int(known[-1])) if known.size else None
