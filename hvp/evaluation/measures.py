"""What is measured: each class is one family of metrics, for all systems (`runner.Measure`).

Each makes one metric per system when it first comes: a metric is made of tensors as long as the
horizon, and torchmetrics' objects are cycles that only the garbage collector frees.

Shapes: S samples, P frames of a piece, T horizon, H height, W width.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from hvp.errors import DataError
from hvp.evaluation.curves import BEST, MEAN, STRUCTURE_MODEL, Curve, Series
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Piece
from hvp.labels import LabelSpace
from hvp.metrics.diversity import HorizonDiversity
from hvp.metrics.horizon import HorizonCurve, HorizonMetric
from hvp.metrics.image import HorizonImageQuality
from hvp.metrics.label_drift import LabelDrift
from hvp.metrics.perceptual import HorizonLPIPS, LPIPSNetwork
from hvp.metrics.segmentation import HorizonIoU
from hvp.metrics.video import WINDOW


class LabelAgreement:
    """mIoU and pixel accuracy of label maps; diversity of the model's samples where S >= 2.

    As every measure of single frames it needs memory for the steps that have ground truth:
    `measured`, or the whole horizon where that is None.
    """

    beyond_truth = False

    def __init__(self, protocol: Protocol, space: LabelSpace, measured: int | None = None) -> None:
        self.protocol, self.space = protocol, space
        steps = protocol.steps(measured)
        self.metrics = defaultdict[str, HorizonIoU](lambda: HorizonIoU(space.n_classes, steps))
        self.diversity = HorizonDiversity(space.n_classes, steps)
        self.best: dict[str, dict[str, int]] = {}

    def update(self, piece: Piece) -> None:
        """See `runner.Measure`."""
        for system, samples_SPHW in piece.systems.items():
            metric = self.metrics[system]
            try:
                metric.update(samples_SPHW, piece.truth, last=piece.last)
            except DataError as error:
                raise DataError(f"clip {piece.clip}: {error}") from error
            if system == STRUCTURE_MODEL:
                n_steps = len(piece.truth)
                if self.protocol.n_samples > 1:
                    self.diversity.update(samples_SPHW[:, :n_steps], last=piece.last)
                if piece.last:
                    _note_best(self.best, metric, piece.clip, ("miou", "pixel_accuracy"))

    def result(self) -> Result:
        """See `runner.Measure`."""
        curves: list[Curve] = []
        class_iou, confusion = {}, {}
        class_curves: list[Curve] = []
        for system, metric in self.metrics.items():
            scores = metric.compute()
            curves += _curves(system, "miou", scores.miou)
            curves += _curves(system, "pixel_accuracy", scores.pixel_accuracy)
            shares = scores.class_iou.tolist()
            class_iou[system] = dict(zip(self.space.classes, shares, strict=True))
            confusion[system] = metric.confusion.cpu().numpy()
            for name, scores_of_class in zip(self.space.classes, scores.class_curves, strict=True):
                if scores_of_class.clips.any():
                    class_curves += _curves(system, "iou", scores_of_class, name)
        if self.protocol.n_samples > 1:
            spread = self.diversity.compute()
            curves.append(
                Curve.measured_part(STRUCTURE_MODEL, "diversity", MEAN, spread.mean, spread.clips)
            )
        return Result(
            self.protocol,
            tuple(curves),
            self.best,
            class_iou,
            class_curves=tuple(class_curves),
            confusion=confusion,
        )


class LabelStatistics:
    """Drift of class histogram, boundaries and motion of label maps along the rollout."""

    beyond_truth = True

    def __init__(self, protocol: Protocol, space: LabelSpace, points: int) -> None:
        self.protocol = protocol

        def new() -> LabelDrift:
            return LabelDrift(space.n_classes, protocol.horizon, WINDOW, points)

        self.real = new()
        self.metrics = defaultdict[str, LabelDrift](new)

    def update(self, piece: Piece) -> None:
        """See `runner.Measure`."""
        self.real.update(piece.truth[None], real=True, last=piece.last)
        for system, samples_SPHW in piece.systems.items():
            self.metrics[system].update(samples_SPHW, real=False, last=piece.last)

    def result(self) -> Result:
        """See `runner.Measure`."""
        found = []
        for system, metric in self.metrics.items():
            metric.copy_real(self.real)
            curves = metric.compute()
            common = (curves.first + 1, curves.last + 1, curves.frames, curves.real_frames)
            for name in ("class_drift", "boundary_drift", "motion_drift"):
                found.append(Series(system, name, getattr(curves, name), *common))
        return Result(self.protocol, (), {}, {}, tuple(found))


class _FrameScores:
    """Scores of single RGB frames."""

    beyond_truth = False

    def __init__(self, protocol: Protocol, model: str, new: Callable[[], HorizonMetric]) -> None:
        self.protocol, self.model = protocol, model
        self.metrics = defaultdict[str, HorizonMetric](new)
        self.best: dict[str, dict[str, int]] = {}

    def update(self, piece: Piece) -> None:
        """See `runner.Measure`."""
        for system, samples_SP3HW in piece.systems.items():
            metric = self.metrics[system]
            metric.update(samples_SP3HW, piece.truth, last=piece.last)
            if system == self.model and piece.last:
                _note_best(self.best, metric, piece.clip)

    def result(self) -> Result:
        """See `runner.Measure`."""
        curves = [
            curve
            for system, metric in self.metrics.items()
            for name, scores in metric.curves().items()
            for curve in _curves(system, name, scores)
        ]
        return Result(self.protocol, tuple(curves), self.best, {})


class ImageLikeness(_FrameScores):
    """PSNR and SSIM of RGB frames."""

    def __init__(self, protocol: Protocol, model: str, measured: int | None = None) -> None:
        steps = protocol.steps(measured)
        super().__init__(protocol, model, lambda: HorizonImageQuality(steps))


class PerceptualDistance(_FrameScores):
    """LPIPS of RGB frames; lower is better."""

    def __init__(
        self,
        protocol: Protocol,
        model: str,
        network: LPIPSNetwork,
        device: torch.device,
        measured: int | None = None,
    ) -> None:
        steps = protocol.steps(measured)
        protocol = replace(protocol, feature_network=network.description)
        super().__init__(protocol, model, lambda: HorizonLPIPS(network, steps).to(device))


def _note_best(
    best: dict[str, dict[str, int]],
    metric: HorizonMetric,
    clip: str,
    names: Sequence[str] | None = None,
) -> None:
    """Note which sample of the last clip is best by each metric, or by those named."""
    assert metric.last_clip is not None
    for name, sample in zip(metric.names, metric.last_clip.best, strict=True):
        if names is None or name in names:
            best.setdefault(name, {})[clip] = sample


def _curves(system: str, metric: str, curve: HorizonCurve, class_name: str = "") -> list[Curve]:
    return [
        Curve.measured_part(system, metric, MEAN, curve.mean, curve.clips, class_name),
        Curve.measured_part(system, metric, BEST, curve.best, curve.clips, class_name),
    ]
