"""Frame-wise metrics: base class of measures such as PSNR, and helpers for their curves.

Shapes: S samples, P frames of a piece, N frames, K metrics, H height, W width.
"""

from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

from hvp.errors import ConfigError
from hvp.evaluation.curves import BEST, MEAN, Curve
from hvp.evaluation.measure import Measure, Setup
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Piece
from hvp.metrics.horizon import HorizonCurve, HorizonMetric
from hvp.metrics.image import HorizonImageMetric


class FrameMeasure(Measure):
    """Frame-wise metrics: each predicted frame is scored against the true one.

    A subclass describes its metrics, of kind `curve` and all of one direction, and writes `score`.
    Mean and best-of-S along the horizon, for every system, follow from it; metrics with a direction
    also rank the samples of a clip.

    Args:
        setup: what the evaluation knows.

    Raises:
        ConfigError: the metrics have different directions.

    Example::

        class Brightness(FrameMeasure):
            metrics = (
                MetricInfo("brightness", "brightness error", "frames", "curve", 2, False, "levels"),
            )

            def score(self, prediction, truth):
                return (prediction.float() - truth.float()).mean((1, 2, 3)).abs()[None]
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if len({info.higher_is_better for info in self.metrics}) > 1:
            raise ConfigError(
                f"{type(self).__name__}: its metrics have different directions; make a measure of "
                "each direction"
            )
        # A metric is made when its system first comes: it is made of tensors as long as the
        # horizon, and torchmetrics' objects are cycles that only the garbage collector frees.
        self.systems = defaultdict[str, HorizonImageMetric](self.new_metric)
        self.best: dict[str, dict[str, int]] = {}

    def score(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Scores (K, N), one row for each of `metrics`; NaN where a frame has none.

        Args:
            prediction: uint8 RGB (N, 3, H, W), or label maps (N, H, W), on `setup.device`.
            truth: the true frames, of the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `score`")

    def new_metric(self) -> HorizonImageMetric:
        """Accumulator of one system's scores; by default of those that `score` gives."""
        kind = _Distances if self.metrics[0].higher_is_better is False else _Scores
        return kind(self).to(self.setup.device)

    def update(self, piece: Piece) -> None:
        """See `Measure`."""
        for system, samples_SP in piece.systems.items():
            metric = self.systems[system]
            metric.update(samples_SP, piece.truth, last=piece.last)
            if system == self.model and piece.last:
                note_best(self.best, metric, piece.clip)

    def result(self) -> Result:
        """See `Measure`."""
        directed = self.metrics[0].higher_is_better is not None
        curves = tuple(
            curve
            for system, metric in self.systems.items()
            for name, scores in metric.curves().items()
            for curve in mean_and_best(system, name, scores)
            if directed or curve.aggregate == MEAN
        )
        best = self.best if directed else {}
        return Result(self.protocol, self.metrics, curves, best_samples=best)


class _Scores(HorizonImageMetric):
    """Accumulator of one system's scores where higher is better."""

    def __init__(self, measure: FrameMeasure) -> None:
        super().__init__([info.name for info in measure.metrics], measure.setup.steps)
        self.measure = measure

    def compute(self) -> dict[str, HorizonCurve]:
        """The curves over all clips so far."""
        return self.curves()

    def _score(self, prediction_N3HW: Tensor, truth_N3HW: Tensor) -> Tensor:
        return self.measure.score(prediction_N3HW, truth_N3HW)


class _Distances(_Scores):
    """Accumulator of one system's scores where lower is better."""

    higher_is_better = False


def note_best(
    best: dict[str, dict[str, int]],
    metric: HorizonMetric,
    clip: str,
    names: Sequence[str] | None = None,
) -> None:
    """Add to `best` the best sample of the clip that has just ended, by `names` or all metrics."""
    assert metric.last_clip is not None
    for name, sample in zip(metric.names, metric.last_clip.best, strict=True):
        if names is None or name in names:
            best.setdefault(name, {})[clip] = sample


def mean_and_best(
    system: str, metric: str, curve: HorizonCurve, class_name: str = ""
) -> tuple[Curve, Curve]:
    """The mean over samples and the best of S of one system, cut to the measured steps."""
    return (
        Curve.measured_part(system, metric, MEAN, curve.mean, curve.clips, class_name),
        Curve.measured_part(system, metric, BEST, curve.best, curve.clips, class_name),
    )
