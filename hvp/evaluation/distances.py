"""Measures of sets of frames by a feature network: FVD and FID.

Shapes: S samples, P frames of a piece, H height, W width.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.evaluation import networks
from hvp.evaluation.curves import Series
from hvp.evaluation.measure import Measure, Setup
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.missing import Unavailable
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Piece
from hvp.metrics.fid import FID
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.video import WINDOW, SlidingFVD

_LONGER = "evaluate more or longer clips: dataset.max_eval_clips=null dataset.rules.n_eval=..."

_SLIDING = (
    "A sliding value compares the predicted windows at one part of the roll-out with all real "
    "windows."
)


class VideoDistance(Measure):
    """FVD of RGB: of all windows together, and of windows along the roll-out (sliding FVD).

    Args:
        setup: what the evaluation knows.
        weights: of I3D, see `load_i3d`, or a network that is loaded already; None for none.
        points: the most windows along the roll-out.

    Raises:
        Unavailable: there are no weights.
    """

    metrics = (
        MetricInfo("fvd", "FVD", "frames", "number", 1, False),
        MetricInfo(
            "sliding_fvd", "sliding FVD", "frames", "series", 1, False, explanation=_SLIDING
        ),
    )
    beyond_truth = True
    min_horizon = WINDOW

    def __init__(self, setup: Setup, weights: str | FeatureNetwork | None, points: int) -> None:
        super().__init__(setup)
        network = networks.i3d(setup, weights)
        self.protocol = replace(
            setup.protocol, metric_window=WINDOW, feature_network=network.description
        )

        def new() -> SlidingFVD:
            horizon = setup.protocol.horizon
            return SlidingFVD(network, horizon, points=points).to(setup.device)

        self.real = new()
        self.systems = defaultdict[str, SlidingFVD](new)

    def to_rgb(self, frames: Tensor) -> Tensor:
        """RGB (..., 3, H, W) uint8 of the channel's frames."""
        return frames

    def update(self, piece: Piece) -> None:
        """See `Measure`."""
        self.real.update(self.to_rgb(piece.truth)[None], real=True, last=piece.last)
        for system, samples in piece.systems.items():
            self.systems[system].update(self.to_rgb(samples), real=False, last=piece.last)

    def result(self) -> Result:
        """See `Measure`."""
        found = []
        for system, metric in self.systems.items():
            metric.copy_real(self.real)
            try:
                curve = metric.compute()
            except DataError as error:
                raise Unavailable(f"{error}.", _LONGER) from error
            n_windows = curve.windows.sum(keepdims=True)
            overall = np.array([curve.overall])
            first, last = curve.first + 1, curve.last + 1
            whole, sliding = (info.name for info in self.metrics)
            found += [
                Series(system, whole, overall, first[:1], last[-1:], n_windows, curve.real_windows),
                Series(
                    system, sliding, curve.values, first, last, curve.windows, curve.real_windows
                ),
            ]
        return Result(self.protocol, self.metrics, series=tuple(found))


class LabelVideoDistance(VideoDistance):
    """FVD and sliding FVD of label maps in the colours of their classes; see `VideoDistance`."""

    metrics = (
        MetricInfo(
            "fvd_labels", "FVD of labels", "labels", "number", 1, False,
            explanation="Labels are colourised for FVD.",
        ),
        MetricInfo(
            "sliding_fvd_labels", "sliding FVD of labels", "labels", "series", 1, False,
            explanation=_SLIDING,
        ),
    )  # fmt: skip

    def to_rgb(self, frames: Tensor) -> Tensor:
        """See `VideoDistance`."""
        return torch.from_numpy(self.setup.space.colourise(frames.numpy())).movedim(-1, -3)


class FrameDistance(Measure):
    """FID of all predicted RGB frames, beyond the ground truth too.

    Args:
        setup: what the evaluation knows.
        weights: of Inception, see `load_inception`, or a network that is loaded already; None for
            none.

    Raises:
        Unavailable: there are no weights, or torch-fidelity is not installed.
    """

    metrics = (MetricInfo("fid", "FID", "frames", "number", 1, False),)
    beyond_truth = True
    optional = True

    def __init__(self, setup: Setup, weights: str | FeatureNetwork | None) -> None:
        super().__init__(setup)
        network = networks.inception(setup, weights)
        self.protocol = replace(setup.protocol, feature_network=network.description)
        self.real = FID(network).to(setup.device)
        self.systems = defaultdict[str, FID](lambda: FID(network).to(setup.device))
        self.last_steps: dict[str, int] = {}
        self._done = 0  # steps of the open clip

    def update(self, piece: Piece) -> None:
        """See `Measure`."""
        self.real.update(piece.truth, real=True)
        for system, samples_SP3HW in piece.systems.items():
            self.systems[system].update(samples_SP3HW.flatten(0, 1), real=False)
            last = self._done + samples_SP3HW.shape[1]
            self.last_steps[system] = max(self.last_steps.get(system, 1), last)
        steps = max(samples.shape[1] for samples in piece.systems.values())
        self._done = 0 if piece.last else self._done + steps

    def result(self) -> Result:
        """See `Measure`."""
        found = []
        for system, metric in self.systems.items():
            metric.copy_real(self.real)
            try:
                value = np.array([float(metric.compute())])
            except DataError as error:
                raise Unavailable(f"{error}.", _LONGER) from error
            ends = np.array([1]), np.array([self.last_steps[system]])
            frames = metric.counts.cpu().numpy()
            found.append(Series(system, "fid", value, *ends, frames, int(metric.real_count)))
        return Result(self.protocol, self.metrics, series=tuple(found))
