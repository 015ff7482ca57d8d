"""What is measured of sets of frames by a network: FVD and FID (`runner.Measure`).

Shapes: S samples, P frames of a piece, H height, W width.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hvp.errors import ConfigError, DataError
from hvp.evaluation.curves import Series
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import NotComputed, Result
from hvp.evaluation.streams import Piece
from hvp.labels import LabelSpace
from hvp.metrics.fid import FID
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.video import WINDOW, SlidingFVD


class VideoDistance:
    """FVD of all windows together and along the rollout, of RGB or of colourised label maps.

    Args:
        protocol: what is measured.
        network: I3D.
        device: where it lies.
        points: the most points of the curve along the rollout.
        colourise: makes RGB (..., 3, H, W) uint8 of frames; None for frames that are RGB.
        suffix: of the metrics' names: `_labels`, or none.

    Raises:
        ConfigError: the horizon is shorter than a window.
    """

    beyond_truth = True

    def __init__(
        self,
        protocol: Protocol,
        network: FeatureNetwork,
        device: torch.device,
        points: int,
        colourise: Callable[[Tensor], Tensor] | None = None,
        suffix: str = "",
    ) -> None:
        self.protocol = replace(protocol, metric_window=WINDOW, feature_network=network.description)
        self.colourise = colourise or (lambda frames: frames)
        self.suffix = suffix

        def new() -> SlidingFVD:
            return SlidingFVD(network, protocol.horizon, points=points).to(device)

        self.real = new()
        self.metrics = defaultdict[str, SlidingFVD](new)

    def update(self, piece: Piece) -> None:
        """See `runner.Measure`."""
        self.real.update(self.colourise(piece.truth)[None], real=True, last=piece.last)
        for system, samples in piece.systems.items():
            self.metrics[system].update(self.colourise(samples), real=False, last=piece.last)

    def result(self) -> Result | NotComputed:
        """See `runner.Measure`."""
        found = []
        for system, metric in self.metrics.items():
            metric.copy_real(self.real)
            try:
                curve = metric.compute()
            except DataError as error:
                return too_short(f"FVD{' on label maps' if self.suffix else ''}", error)
            real = curve.real_windows
            n_windows = curve.windows.sum(keepdims=True)
            overall = np.array([curve.overall])
            first, last = curve.first + 1, curve.last + 1
            found += [
                Series(system, f"fvd{self.suffix}", overall, first[:1], last[-1:], n_windows, real),
                Series(
                    system,
                    f"sliding_fvd{self.suffix}",
                    curve.values,
                    first,
                    last,
                    curve.windows,
                    real,
                ),
            ]
        return Result(self.protocol, (), {}, {}, tuple(found))


class FrameDistance:
    """FID of all predicted frames, beyond the ground truth too, of RGB.

    Args:
        protocol: what is measured.
        network: Inception, from `hvp.metrics.fid.load_inception`.
        device: where it lies.
    """

    beyond_truth = True

    def __init__(self, protocol: Protocol, network: FeatureNetwork, device: torch.device) -> None:
        self.protocol = replace(protocol, feature_network=network.description)
        self.real = FID(network).to(device)
        self.metrics = defaultdict[str, FID](lambda: FID(network).to(device))
        self.last_steps: dict[str, int] = {}
        self._done = 0  # steps of the open clip

    def update(self, piece: Piece) -> None:
        """See `runner.Measure`."""
        self.real.update(piece.truth, real=True)
        for system, samples_SP3HW in piece.systems.items():
            self.metrics[system].update(samples_SP3HW.flatten(0, 1), real=False)
            last = self._done + samples_SP3HW.shape[1]
            self.last_steps[system] = max(self.last_steps.get(system, 1), last)
        steps = max(samples.shape[1] for samples in piece.systems.values())
        self._done = 0 if piece.last else self._done + steps

    def result(self) -> Result | NotComputed:
        """See `runner.Measure`."""
        found = []
        for system, metric in self.metrics.items():
            metric.copy_real(self.real)
            try:
                value = np.array([float(metric.compute())])
            except DataError as error:
                return too_short("FID", error)
            ends = np.array([1]), np.array([self.last_steps[system]])
            frames = metric.counts.cpu().numpy()
            found.append(Series(system, "fid", value, *ends, frames, int(metric.real_count)))
        return Result(self.protocol, (), {}, {}, tuple(found))


def too_short(what: str, error: DataError | ConfigError) -> NotComputed:
    """FVD of too few or too short videos."""
    return NotComputed(
        what,
        f"{error}.",
        "evaluate more or longer clips: dataset.max_eval_clips=null dataset.rules.n_eval=...",
    )


def colouriser(space: LabelSpace) -> Callable[[Tensor], Tensor]:
    """Label maps (..., H, W) uint8 to RGB (..., 3, H, W) uint8 in the colours of `space`."""

    def colourise(labels: Tensor) -> Tensor:
        return torch.from_numpy(space.colourise(labels.numpy())).movedim(-1, -3)

    return colourise
