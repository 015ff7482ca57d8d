"""Fréchet video distance (FVD), of whole videos and along a rollout.

Shapes: N videos in parallel, T frames, H height, W width, G points of a curve, D features.
Frames are uint8 (3, H, W).

Protocol of Unterthiner et al., "Towards Accurate Generative Models of Video: A New
Metric & Challenges" (2018): windows of 16 frames, and as features the 400 logits of I3D trained on
Kinetics-400 (`hvp.metrics.i3d_weights.load_i3d`).
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hvp.errors import ConfigError, DataError
from hvp.metrics.frechet import (
    FeatureNetwork,
    FrechetMetric,
    feature_distance,
    frechet_distance,
    gaussian,
)
from hvp.metrics.windows import SlidingWindows

WINDOW = 16
"""Frames per window in the published protocol."""

_BATCH_SIZE = 8  # windows per forward pass: about 0.5 GB of activations with I3D


def frechet_video_distance(
    real_NT3HW: Tensor, generated_NT3HW: Tensor, network: FeatureNetwork
) -> Tensor:
    """Fréchet video distance (FVD) between two sets of windows.

    Args:
        real_NT3HW: uint8 real windows, N at least 2.
        generated_NT3HW: uint8 generated windows; the N of both may differ.
        network: feature extractor of windows (N, T, 3, H, W).

    Returns:
        float64 scalar, at least 0.

    Example:
        >>> colour = FeatureNetwork(lambda x: x.float().mean((1, 3, 4)), 3, "mean colour")
        >>> windows = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1, 1).expand(4, 2, 3, 8, 8)
        >>> frechet_video_distance(windows, windows + 1, colour).round(decimals=6)
        tensor(3., dtype=torch.float64)
    """
    return feature_distance(real_NT3HW, generated_NT3HW, network, _BATCH_SIZE)


class _WindowedFVD(FrechetMetric):
    """Base of the FVD metrics: two video streams, cut into sliding windows chunk by chunk."""

    def __init__(
        self, network: FeatureNetwork, n_groups: int, window: int, stride: int, **kwargs: Any
    ) -> None:
        super().__init__(network, n_groups, **kwargs)
        self.window = window
        self.stride = stride
        self._streams = {real: SlidingWindows(window, stride) for real in (True, False)}

    def update(self, videos_NT3HW: Tensor, real: bool, last: bool = True) -> None:
        """Add N videos, or a chunk of consecutive frames of N videos in parallel.

        Real and generated videos are two streams that may alternate. Frames behind the last full
        window of a video are not counted.

        Args:
            videos_NT3HW: uint8 frames; ONE clip's S samples, or clips of equal length.
            real: whether the videos are real.
            last: whether this chunk ends the videos.

        Raises:
            DataError: frames are not uint8 (N, T, 3, H, W), or do not continue the chunk before.
        """
        if videos_NT3HW.dtype != torch.uint8 or videos_NT3HW.shape[2:3] != (3,):
            raise DataError(
                f"{type(self).__name__}: videos are {videos_NT3HW.dtype} "
                f"{tuple(videos_NT3HW.shape)}, expected uint8 (N, T, 3, H, W)"
            )
        first, windows_NWT3HW = self._streams[real].push(videos_NT3HW)
        n_videos, n_windows = windows_NWT3HW.shape[:2]
        chunk = max(1, _BATCH_SIZE // max(n_videos, 1))
        for start in range(0, n_windows, chunk):
            part = windows_NWT3HW[:, start : start + chunk]
            positions = range(first + start, first + start + part.shape[1])
            if real:
                self._add_real(part.flatten(0, 1))
            else:
                groups = [self._group(position) for position in positions]
                self._add_generated(part.flatten(0, 1), groups * n_videos)
        if last:
            self._streams[real].reset()

    def _group(self, position: int) -> int:
        """Group of the generated windows at a position (0 = first window of a video)."""
        return 0

    def reset(self) -> None:
        """Reset the states, also those of videos in progress."""
        super().reset()
        for buffer in self._streams.values():
            buffer.reset()


class FVD(_WindowedFVD):
    """Fréchet video distance (FVD) between all windows of real and of generated videos.

    Videos of 16 frames are one window each, which is the published protocol; longer ones are cut.

    Args:
        network: feature extractor of windows (N, window, 3, H, W) uint8.
        window: frames per window.
        stride: frames between the starts of two windows.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> colour = FeatureNetwork(lambda x: x.float().mean((1, 3, 4)), 3, "mean colour")
        >>> videos = torch.arange(64, dtype=torch.uint8).view(2, 32, 1, 1, 1).expand(2, 32, 3, 8, 8)
        >>> metric = FVD(colour)
        >>> metric.update(videos, real=True)
        >>> metric.update(videos[:, :20] + 1, real=False, last=False)
        >>> metric.update(videos[:, 20:] + 1, real=False)
        >>> metric.compute().round(decimals=6)
        tensor(3., dtype=torch.float64)
    """

    def __init__(
        self, network: FeatureNetwork, window: int = WINDOW, stride: int = WINDOW, **kwargs: Any
    ) -> None:
        super().__init__(network, 1, window, stride, **kwargs)

    def compute(self) -> Tensor:
        """FVD, float64 scalar.

        Raises:
            DataError: fewer than 2 real or 2 generated windows.
        """
        gaussian(self.counts[0], self.sums[0], self.outers[0])  # raises on too few windows
        return self._distances()[0]


class SlidingCurve(NamedTuple):
    """Result of `SlidingFVD`: FVD along the rollout, one value per point."""

    values: np.ndarray
    """FVD (G,) float64 of a point's generated windows against all real windows; NaN below 2."""
    first: np.ndarray
    """int64 (G,): first frame of the first window of a point; 0 is the first predicted frame."""
    last: np.ndarray
    """int64 (G,): last frame of the last window of a point, included."""
    windows: np.ndarray
    """int64 (G,): number of generated windows of a point, over clips and samples."""
    real_windows: int
    """Number of real windows in the reference."""
    overall: float
    """FVD of the windows of all points together, as `FVD` with the same window and stride, without
    computing features again. NaN below 2 windows."""


class SlidingFVD(_WindowedFVD):
    """Sliding-window FVD along the rollout: shows whether quality persists.

    Definition. The generated windows at one position of the rollout, over all clips and samples,
    are compared with ONE set of real windows: those of all real videos at all positions. Ground
    truth may be shorter than the rollout, and changes along the curve are changes of the
    predictions, never of the reference.

    Every point holds a full covariance (1.3 MB with I3D). Memory is bounded: neighbouring positions
    are pooled where there are more than `points`.

    Args:
        network: feature extractor of windows (N, window, 3, H, W) uint8.
        horizon: number of predicted frames.
        window: frames per window.
        stride: frames between the starts of two windows.
        points: maximum number of points of the curve.
        kwargs: passed to `torchmetrics.Metric`.

    Raises:
        ConfigError: the horizon is shorter than a window.

    Example:
        >>> colour = FeatureNetwork(lambda x: x.float().mean((1, 3, 4)), 3, "mean colour")
        >>> real = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1, 1).expand(4, 2, 3, 8, 8)
        >>> rollout = torch.cat((real, real + 1, real + 2), dim=1)
        >>> metric = SlidingFVD(colour, horizon=6, window=2, stride=2)
        >>> metric.update(real, real=True)
        >>> for frame in rollout.split(1, dim=1):
        ...     metric.update(frame, real=False, last=False)
        >>> curve = metric.compute()
        >>> curve.values.round(6)
        array([ 0.,  3., 12.])
    """

    def __init__(
        self,
        network: FeatureNetwork,
        horizon: int,
        window: int = WINDOW,
        stride: int = WINDOW,
        points: int = 64,
        **kwargs: Any,
    ) -> None:
        if horizon < window:
            raise ConfigError(
                f"sliding FVD: the horizon of {horizon} frames is shorter than a window of "
                f"{window}; predict at least {window} frames"
            )
        self.n_positions = (horizon - window) // stride + 1
        self.horizon = horizon
        super().__init__(network, min(points, self.n_positions), window, stride, **kwargs)

    def _group(self, position: int) -> int:
        if position >= self.n_positions:
            raise DataError(
                f"SlidingFVD: a generated video is longer than the horizon of {self.horizon} "
                "frames; cut it, or end the videos before with last=True"
            )
        return position * len(self.counts) // self.n_positions

    def compute(self) -> SlidingCurve:
        """FVD curve over all videos so far.

        Raises:
            DataError: fewer than 2 real windows.
        """
        n_points = len(self.counts)
        positions = np.arange(self.n_positions)
        groups = positions * n_points // self.n_positions
        edges = np.searchsorted(groups, np.arange(n_points + 1))
        return SlidingCurve(
            values=self._distances().cpu().numpy(),
            first=edges[:-1] * self.stride,
            last=(edges[1:] - 1) * self.stride + self.window - 1,
            windows=self.counts.cpu().numpy(),
            real_windows=int(self.real_count),
            overall=float(self._overall()),
        )

    def _overall(self) -> Tensor:
        if self.counts.sum() < 2:
            return torch.tensor(torch.nan)
        real = gaussian(self.real_count, self.real_sum, self.real_outer)
        all_points = gaussian(self.counts.sum(), self.sums.sum(dim=0), self.outers.sum(dim=0))
        return frechet_distance(*real, *all_points)
