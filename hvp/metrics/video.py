"""Fréchet video distance (FVD), over whole videos and along a rollout.

Shapes: N videos side by side, T frames, H height, W width, G points of a curve, D features.
Frames are uint8 (3, H, W).

The protocol is that of Unterthiner et al., "Towards Accurate Generative Models of Video: A New
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
"""Frames of a window in the published protocol."""

_BATCH_SIZE = 8  # bounds what the feature network holds: about 0.5 GB with I3D


def frechet_video_distance(
    real_NT3HW: Tensor, generated_NT3HW: Tensor, network: FeatureNetwork
) -> Tensor:
    """FVD between two sets of windows.

    Args:
        real_NT3HW: uint8 real windows, N at least 2.
        generated_NT3HW: uint8 generated windows; the N of both may differ.
        network: gives the features of windows (N, T, 3, H, W).

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
    """What both metrics share: two sets of open videos, cut into windows as their pieces come."""

    def __init__(
        self, network: FeatureNetwork, n_groups: int, window: int, stride: int, **kwargs: Any
    ) -> None:
        super().__init__(network, n_groups, **kwargs)
        self.window = window
        self.stride = stride
        self._streams = {real: SlidingWindows(window, stride) for real in (True, False)}

    def update(self, videos_NT3HW: Tensor, real: bool, last: bool = True) -> None:
        """Add N videos, or a piece of consecutive frames of N videos side by side.

        Real and generated videos are two streams that may come in turns. What is left behind the
        last full window of a video counts nothing.

        Args:
            videos_NT3HW: uint8 frames; ONE clip's S samples, or clips of equal length.
            real: whether these are real videos.
            last: whether this piece ends the videos.

        Raises:
            DataError: frames are not uint8 (N, T, 3, H, W), or do not continue the piece before.
        """
        if videos_NT3HW.dtype != torch.uint8 or videos_NT3HW.shape[2:3] != (3,):
            raise DataError(
                f"{type(self).__name__}: videos are {videos_NT3HW.dtype} "
                f"{tuple(videos_NT3HW.shape)}, expected uint8 (N, T, 3, H, W)"
            )
        first, windows_NWT3HW = self._streams[real].push(videos_NT3HW)
        n_videos, n_windows = windows_NWT3HW.shape[:2]
        at_once = max(1, _BATCH_SIZE // max(n_videos, 1))
        for start in range(0, n_windows, at_once):
            part = windows_NWT3HW[:, start : start + at_once]
            positions = range(first + start, first + start + part.shape[1])
            if real:
                self._add_real(part.flatten(0, 1))
            else:
                groups = [self._group(position) for position in positions]
                self._add_generated(part.flatten(0, 1), groups * n_videos)
        if last:
            self._streams[real].reset()

    def _group(self, position: int) -> int:
        """The group of generated windows at a position: 0 for the first window of a video."""
        return 0

    def reset(self) -> None:
        """Forget all videos, also those whose last piece has not come yet."""
        super().reset()
        for buffer in self._streams.values():
            buffer.reset()


class FVD(_WindowedFVD):
    """Fréchet video distance between all windows of real and of generated videos.

    Videos of 16 frames are one window each, which is the published protocol; longer ones are cut.

    Args:
        network: gives the features of windows (N, window, 3, H, W) uint8.
        window: frames of a window.
        stride: frames from the start of a window to that of the next.
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
        """The distance, float64.

        Raises:
            DataError: fewer than 2 real or 2 generated windows.
        """
        gaussian(self.counts[0], self.sums[0], self.outers[0])  # refuses too few windows
        return self._distances()[0]


class SlidingCurve(NamedTuple):
    """What `SlidingFVD` computes: FVD along the rollout, one value per point."""

    values: np.ndarray
    """float64 (G,): distance of the generated windows of a point from all real windows; NaN where
    there are fewer than 2."""
    first: np.ndarray
    """int64 (G,): first frame of the first window of a point; 0 is the first predicted frame."""
    last: np.ndarray
    """int64 (G,): last frame of the last window of a point, included."""
    windows: np.ndarray
    """int64 (G,): generated windows of a point, over clips and samples."""
    real_windows: int
    """Real windows that all points are compared with."""
    overall: float
    """Distance of the windows of all points together: what `FVD` gives for the same windows and
    stride, without computing their features again. NaN where there are fewer than 2."""


class SlidingFVD(_WindowedFVD):
    """FVD of a window that slides along the rollout: shows whether quality persists.

    Definition. The generated windows at one position of the rollout, over all clips and samples,
    are compared with ONE set of real windows: those of all real videos at all positions. So the
    ground truth may end long before the rollout does, and a change along the curve is a change of
    the predictions, never of the reference.

    Every point needs a full covariance (1.3 MB with I3D); to keep memory independent of the
    horizon, neighbouring positions are pooled when there are more than `points` of them.

    Args:
        network: gives the features of windows (N, window, 3, H, W) uint8.
        horizon: number of predicted frames.
        window: frames of a window.
        stride: frames from the start of a window to that of the next.
        points: the most points that the curve may have.
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
        """The curve over all videos so far.

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
