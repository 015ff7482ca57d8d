"""Label drift: statistics of predicted label maps along a rollout, against real label maps.

Needs no feature network and no ground truth of the predicted frames, so it covers rollouts of any
length. It does not replace FVD: wrong maps may have the right statistics.

Three statistics of the predicted maps at a point of the rollout (over clips and samples), each
against ALL real maps, so that the reference is the same at every point. 0 is best.

- class drift: total variation distance of the class histograms, in 0..1: the fraction of pixels
  that would have to change class.
- boundary drift: |d / d_real - 1| of the class boundary density d, the fraction of neighbouring
  pixels (right and below) that differ. It rises when maps dissolve into noise or into a few blobs.
- motion drift: |m / m_real - 1| of the fraction m of pixels that change between frames. It is 1
  for a video that stands still.

`IGNORE` pixels, and pairs with one, are not counted.

Shapes: N videos in parallel, P frames of a chunk, H height, W width, C classes, G points.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from hvp.errors import DataError
from hvp.labels import IGNORE


def label_counts(labels_PNHW: Tensor, before_NHW: Tensor | None, n_classes: int) -> Tensor:
    """Per-frame counts that the drift statistics are computed from.

    Args:
        labels_PNHW: uint8 label maps, time first.
        before_NHW: uint8 maps of the previous frame; None at the start of the videos.
        n_classes: number of classes C.

    Returns:
        int64 (P, C + 4): pixels of each class; boundary pairs and all pairs; changed pixels and all
        pixels that have a predecessor.

    Example:
        >>> maps = torch.tensor([[[[0, 0, 1]]], [[[0, 1, 1]]]], dtype=torch.uint8)
        >>> label_counts(maps, None, n_classes=2)
        tensor([[2, 1, 1, 2, 0, 0],
                [1, 2, 1, 2, 1, 3]])
    """
    n_steps = len(labels_PNHW)
    known = labels_PNHW < n_classes
    cells = torch.arange(n_steps, device=labels_PNHW.device).view(-1, 1, 1, 1) * n_classes
    cells = (labels_PNHW.long() + cells)[known]
    histogram = torch.bincount(cells, minlength=n_steps * n_classes).view(n_steps, n_classes)

    def differing(one: Tensor, other: Tensor, both_known: Tensor) -> Tensor:
        pairs = ((one != other) & both_known, both_known)
        return torch.stack([pair.flatten(1).sum(1) for pair in pairs], dim=1)

    across = differing(
        labels_PNHW[..., 1:], labels_PNHW[..., :-1], known[..., 1:] & known[..., :-1]
    )
    down = differing(
        labels_PNHW[..., 1:, :], labels_PNHW[..., :-1, :], known[..., 1:, :] & known[..., :-1, :]
    )
    if before_NHW is None:  # all `IGNORE`: nothing is counted
        before_NHW = labels_PNHW.new_full(labels_PNHW.shape[1:], IGNORE)
    earlier = torch.cat((before_NHW[None].to(labels_PNHW), labels_PNHW[:-1]))[:n_steps]
    motion = differing(labels_PNHW, earlier, known & (earlier < n_classes))
    return torch.cat((histogram, across + down, motion), dim=1)


def drift(counts_GK: Tensor, real_K: Tensor) -> Tensor:
    """Class, boundary and motion drift (3, G) float64 of summed `label_counts`; NaN without any.

    Example:
        >>> real = torch.tensor([50, 50, 10, 100, 20, 100])
        >>> drift(torch.tensor([[100, 0, 5, 100, 0, 100]]), real).flatten()
        tensor([0.5000, 0.5000, 1.0000], dtype=torch.float64)
    """
    counts, real = counts_GK.double(), real_K.double()
    shares_GC = counts[:, :-4] / counts[:, :-4].sum(1, keepdim=True)
    class_drift = (shares_GC - real[:-4] / real[:-4].sum()).abs().sum(1) / 2
    ratios = [
        (counts[:, n] / counts[:, n + 1] / (real[n] / real[n + 1]) - 1).abs() for n in (-4, -2)
    ]
    ratios = [torch.where(ratio.isinf(), torch.nan, ratio) for ratio in ratios]
    return torch.stack((class_drift, *ratios))


class DriftCurves(NamedTuple):
    """Result of `LabelDrift`: three statistics at G points along the rollout."""

    class_drift: np.ndarray
    """float64 (G,)."""
    boundary_drift: np.ndarray
    """float64 (G,)."""
    motion_drift: np.ndarray
    """float64 (G,)."""
    first: np.ndarray
    """int64 (G,): first frame of a point; 0 is the first predicted frame."""
    last: np.ndarray
    """int64 (G,): last frame of a point, included."""
    frames: np.ndarray
    """int64 (G,): number of predicted maps at a point, over clips and samples."""
    real_frames: int
    """Number of real maps in the reference."""


class LabelDrift(Metric):
    """Label drift along a rollout (class, boundary, motion); see the module.

    All states are int64 sums, reduced by addition over processes; memory does not grow with the
    horizon.

    Args:
        n_classes: number of classes C.
        horizon: number of predicted frames.
        window: minimum number of frames per point.
        points: maximum number of points of the curve.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> metric = LabelDrift(n_classes=2, horizon=2, window=1)
        >>> real = torch.tensor([[[[0, 1]], [[1, 0]]]], dtype=torch.uint8)
        >>> metric.update(real, real=True)
        >>> metric.update(real[:, [0, 0]], real=False)
        >>> metric.compute().motion_drift
        array([nan,  1.])
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    counts: Tensor
    frames: Tensor
    real_counts: Tensor
    real_frames: Tensor

    def __init__(
        self, n_classes: int, horizon: int, window: int = 16, points: int = 64, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.n_classes = n_classes
        self.horizon = horizon
        self.window = window
        self.n_positions = -(-horizon // window)
        n_points = min(points, self.n_positions)
        for prefix, shape in (("", (n_points,)), ("real_", ())):
            counts = torch.zeros((*shape, n_classes + 4), dtype=torch.int64)
            self.add_state(f"{prefix}counts", counts, dist_reduce_fx="sum")
            frames = torch.zeros(shape, dtype=torch.int64)
            self.add_state(f"{prefix}frames", frames, dist_reduce_fx="sum")
        self._reset_streams()

    def _reset_streams(self) -> None:
        self._before: dict[bool, Tensor | None] = {True: None, False: None}
        self._seen = {True: 0, False: 0}

    def reset(self) -> None:
        """Reset the states, also those of videos in progress."""
        super().reset()
        self._reset_streams()

    def update(self, labels_NPHW: Tensor, real: bool, last: bool = True) -> None:
        """Add N videos of label maps, or a chunk of consecutive frames of N videos in parallel.

        Real and predicted videos are two streams that may alternate.

        Args:
            labels_NPHW: uint8 label maps on any device; ONE clip's S samples, or clips of equal
                length.
            real: whether the videos are real.
            last: whether this chunk ends the videos.

        Raises:
            DataError: predicted videos are longer than the horizon.
        """
        n_videos, n_steps = labels_NPHW.shape[:2]
        first = self._seen[real]
        if not real and first + n_steps > self.horizon:
            raise DataError(
                f"LabelDrift: a predicted video is longer than the horizon of {self.horizon} "
                "frames; cut it, or end the videos before with last=True"
            )
        if n_steps:
            labels_PNHW = labels_NPHW.to(self.device).transpose(0, 1)
            counts_PK = label_counts(labels_PNHW, self._before[real], self.n_classes)
            if real:
                self.real_counts += counts_PK.sum(0)
                self.real_frames += n_videos * n_steps
            else:
                steps_P = torch.arange(first, first + n_steps, device=counts_PK.device)
                points_P = steps_P // self.window * len(self.counts) // self.n_positions
                self.counts.index_add_(0, points_P, counts_PK)
                self.frames.index_add_(0, points_P, torch.full_like(points_P, n_videos))
            self._before[real] = labels_PNHW[-1].clone()
            self._seen[real] += n_steps
        if last:
            self._before[real], self._seen[real] = None, 0

    def copy_real(self, other: "LabelDrift") -> None:
        """Copy the real counts of `other`, so that real maps are counted once for all models."""
        self._computed = None  # invalidates torchmetrics' cached value
        self.real_counts = other.real_counts.clone()
        self.real_frames = other.real_frames.clone()

    def compute(self) -> DriftCurves:
        """Drift curves over all videos so far."""
        points = np.arange(self.n_positions) * len(self.counts) // self.n_positions
        edges = np.searchsorted(points, np.arange(len(self.counts) + 1)) * self.window
        classes, boundaries, motion = drift(self.counts, self.real_counts).cpu().numpy()
        return DriftCurves(
            class_drift=classes,
            boundary_drift=boundaries,
            motion_drift=motion,
            first=edges[:-1],
            last=np.minimum(edges[1:], self.horizon) - 1,
            frames=self.frames.cpu().numpy(),
            real_frames=int(self.real_frames),
        )
