"""User-defined measures from outside of the package."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from hvp.clips import ClipId
from hvp.evaluation.curves import Series
from hvp.evaluation.frame_measure import FrameMeasure
from hvp.evaluation.measure import Measure, Setup
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Piece, Stream


class Brightness(FrameMeasure):
    """Brightness error: absolute difference of mean grey levels of predicted and true frame."""

    metrics = (
        MetricInfo(
            "brightness", "brightness error", "frames", "curve", 2, False, "levels",
            explanation="Brightness error is the difference of the mean grey levels.",
        ),
    )  # fmt: skip

    def __init__(self, setup: Setup, gain: float) -> None:
        super().__init__(setup)
        self.gain = gain

    def score(self, prediction: Tensor, truth: Tensor) -> Tensor:
        difference = prediction.float() - truth.float()
        return self.gain * difference.mean((1, 2, 3)).abs()[None]


class RoadShare(Measure):
    """Share of the first class in predicted label maps, with a baseline of that class only."""

    metrics = (MetricInfo("road", "road share", "labels", "number", 2, unit="%"),)
    beyond_truth = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.shares = defaultdict[str, list[float]](list)

    def baselines(self, clip: ClipId, truth: Stream) -> Mapping[str, Stream]:
        return {"all road": (np.zeros_like(frame) for frame in truth)}

    def update(self, piece: Piece) -> None:
        for system, samples in piece.systems.items():
            self.shares[system] += (samples == 0).float().mean((0, 2, 3)).tolist()

    def result(self) -> Result:
        one = np.array([1])
        series = (
            Series(name, "road", 100 * np.mean(shares, keepdims=True), one, one, one, 1)
            for name, shares in self.shares.items()
        )
        return Result(self.protocol, self.metrics, series=tuple(series))
