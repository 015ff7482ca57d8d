"""Measures of label maps: mIoU, pixel accuracy, diversity, and drift of their statistics.

Shapes: S samples, P frames of a piece, T horizon, H height, W width.
"""

from collections import defaultdict

from hvp.errors import DataError
from hvp.evaluation.curves import MEAN, Curve, Series
from hvp.evaluation.frame_measure import mean_and_best, note_best
from hvp.evaluation.measure import Measure, Setup
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Piece
from hvp.metrics.diversity import HorizonDiversity
from hvp.metrics.label_drift import LabelDrift
from hvp.metrics.segmentation import HorizonIoU
from hvp.metrics.video import WINDOW


class LabelAgreement(Measure):
    """mIoU, pixel accuracy, IoU of each class; diversity of the model's samples where S >= 2.

    Memory grows with the steps that have ground truth, not with the horizon.
    """

    metrics = (
        MetricInfo(
            "miou", "mIoU", "labels", "curve", 3, True,
            explanation="mIoU is the mean over the classes present in a frame's ground truth, "
            "averaged over frames and clips; the sample that is best by it is also that of "
            "pixel accuracy.",
        ),
        MetricInfo("pixel_accuracy", "pixel accuracy", "labels", "curve", 3, True),
        MetricInfo(
            "diversity", "diversity", "labels", "curve", 3,
            explanation="Diversity is the mean of 1 - mIoU over pairs of samples.",
        ),
        MetricInfo(
            "iou", "IoU", "labels", "classes", 3, True,
            explanation="From the confusion summed over all frames, clips and samples.",
        ),
    )  # fmt: skip
    gives_confusion = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        n_classes, steps = setup.space.n_classes, setup.steps
        self.systems = defaultdict[str, HorizonIoU](lambda: HorizonIoU(n_classes, steps))
        self.diversity = HorizonDiversity(n_classes, steps)
        self.best: dict[str, dict[str, int]] = {}

    def update(self, piece: Piece) -> None:
        """See `Measure`."""
        for system, samples_SPHW in piece.systems.items():
            metric = self.systems[system]
            try:
                metric.update(samples_SPHW, piece.truth, last=piece.last)
            except DataError as error:
                raise DataError(f"clip {piece.clip}: {error}") from error
            if system == self.model:
                n_steps = len(piece.truth)
                if self.protocol.n_samples > 1:
                    self.diversity.update(samples_SPHW[:, :n_steps], last=piece.last)
                if piece.last:
                    note_best(self.best, metric, piece.clip, ("miou", "pixel_accuracy"))

    def result(self) -> Result:
        """See `Measure`."""
        classes = self.setup.space.classes
        curves: list[Curve] = []
        class_iou, confusion = {}, {}
        class_curves: list[Curve] = []
        for system, metric in self.systems.items():
            scores = metric.compute()
            curves += mean_and_best(system, "miou", scores.miou)
            curves += mean_and_best(system, "pixel_accuracy", scores.pixel_accuracy)
            class_iou[system] = dict(zip(classes, scores.class_iou.tolist(), strict=True))
            confusion[system] = metric.confusion.cpu().numpy()
            for name, scores_of_class in zip(classes, scores.class_curves, strict=True):
                if scores_of_class.clips.any():
                    class_curves += mean_and_best(system, "iou", scores_of_class, name)
        if self.protocol.n_samples > 1:
            spread = self.diversity.compute()
            curves.append(
                Curve.measured_part(self.model, "diversity", MEAN, spread.mean, spread.clips)
            )
        return Result(
            self.protocol,
            self.metrics,
            tuple(curves),
            best_samples=self.best,
            class_scores={"iou": class_iou},
            class_curves=tuple(class_curves),
            confusion=confusion,
        )


class LabelStatistics(Measure):
    """Drift of class histogram, boundaries and motion of label maps along the roll-out.

    Args:
        setup: what the evaluation knows.
        points: the most windows along the roll-out.
    """

    metrics = (
        MetricInfo(
            "class_drift", "class drift", "labels", "series", 3, False,
            explanation="Class drift compares the class histogram of the predicted label maps at "
            "one part of the roll-out with that of all real ones, 0 being no drift.",
        ),
        MetricInfo(
            "boundary_drift", "boundary drift", "labels", "series", 3, False,
            explanation="Boundary drift does so with the density of class boundaries.",
        ),
        MetricInfo(
            "motion_drift", "motion drift", "labels", "series", 3, False,
            explanation="Motion drift does so with the share of moving pixels.",
        ),
    )  # fmt: skip
    beyond_truth = True

    def __init__(self, setup: Setup, points: int) -> None:
        super().__init__(setup)

        def new() -> LabelDrift:
            return LabelDrift(setup.space.n_classes, setup.protocol.horizon, WINDOW, points)

        self.real = new()
        self.systems = defaultdict[str, LabelDrift](new)

    def update(self, piece: Piece) -> None:
        """See `Measure`."""
        self.real.update(piece.truth[None], real=True, last=piece.last)
        for system, samples_SPHW in piece.systems.items():
            self.systems[system].update(samples_SPHW, real=False, last=piece.last)

    def result(self) -> Result:
        """See `Measure`."""
        found = []
        for system, metric in self.systems.items():
            metric.copy_real(self.real)
            curves = metric.compute()
            common = (curves.first + 1, curves.last + 1, curves.frames, curves.real_frames)
            for info in self.metrics:
                found.append(Series(system, info.name, getattr(curves, info.name), *common))
        return Result(self.protocol, self.metrics, series=tuple(found))
