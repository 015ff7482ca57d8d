"""Semantic segmentation metrics: confusion matrix, IoU, mIoU, pixel accuracy, and their curves.

Shapes: S samples, T time (or N frames of any kind), H height, W width, C classes. A confusion
matrix is (C, C+1): row = true class, column = predicted class, last column = predicted `IGNORE`
(copied ground-truth frames have such pixels: they are wrong, but no class's false positives).
Pixels whose ground truth is `IGNORE` are not counted.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.labels import IGNORE
from hvp.metrics.horizon import HorizonCurve, HorizonMetric

_PIXELS_PER_CHUNK = 2**20  # bounds the int64 index made for bincount to 8 MiB


def confusion_matrix(prediction_NHW: Tensor, truth_NHW: Tensor, n_classes: int) -> Tensor:
    """Confusion matrix of each frame.

    Args:
        prediction_NHW: uint8 label maps.
        truth_NHW: uint8 label maps of the same shape.
        n_classes: number of classes C.

    Returns:
        int64 (N, C, C+1).

    Raises:
        DataError: an id is neither a class nor `IGNORE`.

    Example:
        >>> truth = torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
        >>> prediction = torch.tensor([[[0, 1, 1, 0]]], dtype=torch.uint8)
        >>> confusion_matrix(prediction, truth, n_classes=2)
        tensor([[[1, 1, 0],
                 [0, 1, 0]]])
    """
    for name, labels in (("prediction", prediction_NHW), ("ground truth", truth_NHW)):
        bad = (labels >= n_classes) & (labels != IGNORE)
        if bad.any():
            raise DataError(
                f"{name}: label id {int(labels[bad][0])} is outside 0..{n_classes - 1} "
                f"({IGNORE} = ignore); give the label space these maps were made with"
            )
    n_frames = len(truth_NHW)
    size = n_classes + 1  # IGNORE is one more class; its row is dropped below
    cell_NHW = truth_NHW.clamp(max=n_classes).long().mul_(size)
    cell_NHW += prediction_NHW.clamp(max=n_classes)
    cell_NHW += (torch.arange(n_frames, device=cell_NHW.device) * size**2).view(-1, 1, 1)
    counts = torch.bincount(cell_NHW.flatten(), minlength=n_frames * size**2)
    return counts.view(n_frames, size, size)[:, :n_classes]


def class_iou(confusion: Tensor) -> Tensor:
    """IoU of each class, TP / (TP + FP + FN), NaN for classes absent from the ground truth.

    Args:
        confusion: int64 (..., C, C+1).

    Returns:
        float64 (..., C), in 0..1.

    Example:
        >>> class_iou(torch.tensor([[1, 1, 0], [0, 0, 0]]))
        tensor([0.5000,    nan], dtype=torch.float64)
    """
    in_truth = confusion.sum(dim=-1)
    in_prediction = confusion[..., :-1].sum(dim=-2)
    both = confusion.diagonal(dim1=-2, dim2=-1).double()
    return torch.where(in_truth > 0, both / (in_truth + in_prediction - both), torch.nan)


def mean_iou(confusion: Tensor) -> Tensor:
    """Mean IoU (mIoU) over the classes present in the ground truth.

    Args:
        confusion: int64 (..., C, C+1).

    Returns:
        float64 (...), in 0..1; NaN where all ground truth is `IGNORE`.

    Example:
        >>> mean_iou(torch.tensor([[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]]))
        tensor(0.7750, dtype=torch.float64)
    """
    return class_iou(confusion).nanmean(dim=-1)


def pixel_accuracy(confusion: Tensor) -> Tensor:
    """Pixel accuracy: fraction of the pixels with ground truth whose label is right.

    Args:
        confusion: int64 (..., C, C+1).

    Returns:
        float64 (...), in 0..1; NaN where all ground truth is `IGNORE`.

    Example:
        >>> pixel_accuracy(torch.tensor([[3, 1, 0], [0, 4, 0]]))
        tensor(0.8750, dtype=torch.float64)
    """
    right = confusion.diagonal(dim1=-2, dim2=-1).sum(dim=-1).double()
    return right / confusion.sum(dim=(-2, -1))


class SegmentationScores(NamedTuple):
    """Result of `HorizonIoU`."""

    miou: HorizonCurve
    """Frame-wise mIoU."""
    pixel_accuracy: HorizonCurve
    """Pixel accuracy; its best-of-S is of the sample with the best mIoU."""
    class_iou: np.ndarray
    """Dataset IoU (C,) float64: of the confusion matrix summed over frames, clips and samples; NaN
    for classes absent from the ground truth."""
    class_curves: tuple[HorizonCurve, ...]
    """Frame-wise IoU of each class, over the frames whose ground truth has the class; best-of-S is
    of the sample with the best mIoU."""


class HorizonIoU(HorizonMetric):
    """mIoU, class IoU and pixel accuracy of predicted label maps per predicted step.

    Definition. mIoU is frame-wise: for each clip, sample and step, the mean IoU over the classes
    present in THAT frame's ground truth, `IGNORE` pixels excluded; then averaged over samples (or
    of the best sample) and over clips. It differs from the dataset mIoU (IoU of the summed
    confusion matrix), for which `class_iou` is given. The best of a clip's S samples has the
    highest mean mIoU over the clip, for all curves.

    Args:
        n_classes: number of classes C.
        horizon: number of predicted steps T.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> truth = torch.tensor([[[0, 1]], [[0, 1]]], dtype=torch.uint8)
        >>> samples = torch.tensor([[[[0, 1]], [[0, 0]]], [[[1, 0]], [[0, 1]]]], dtype=torch.uint8)
        >>> metric = HorizonIoU(n_classes=2, horizon=2)
        >>> metric.update(samples, truth)
        >>> metric.compute().miou.mean
        array([0.5  , 0.625])
        >>> metric.compute().miou.best
        array([1.  , 0.25])
    """

    confusion: Tensor

    def __init__(self, n_classes: int, horizon: int, **kwargs: Any) -> None:
        classes = (f"class_{index}" for index in range(n_classes))
        super().__init__(("miou", "pixel_accuracy", *classes), horizon, best_by="miou", **kwargs)
        self.n_classes = n_classes
        confusion = torch.zeros((n_classes, n_classes + 1), dtype=torch.int64)
        self.add_state("confusion", confusion, dist_reduce_fx="sum")

    def update(self, samples_STHW: Tensor, truth_THW: Tensor, last: bool = True) -> None:
        """Add a clip, or a chunk of consecutive steps of one.

        Args:
            samples_STHW: uint8 label maps of the predicted steps, without context; on any device.
            truth_THW: uint8 ground truth from the same step on; steps behind its end are not
                scored.
            last: whether this chunk ends the clip.

        Raises:
            DataError: an id is neither a class nor `IGNORE`, or the clip exceeds the horizon.
        """
        n_samples, _, height, width = samples_STHW.shape
        n_steps = min(samples_STHW.shape[1], len(truth_THW))
        chunk = max(1, _PIXELS_PER_CHUNK // (n_samples * height * width))
        scores = [torch.zeros((len(self.names), n_samples, 0), device=self.device)]
        for first in range(0, n_steps, chunk):
            steps = slice(first, min(first + chunk, n_steps))
            prediction_STHW = samples_STHW[:, steps].to(self.device)
            truth_STHW = truth_THW[steps].to(self.device).expand_as(prediction_STHW)
            confusion = confusion_matrix(
                prediction_STHW.flatten(0, 1), truth_STHW.flatten(0, 1), self.n_classes
            ).unflatten(0, (n_samples, -1))
            per_class_CST = class_iou(confusion).movedim(-1, 0)
            overall_2ST = torch.stack((mean_iou(confusion), pixel_accuracy(confusion)))
            scores.append(torch.cat((overall_2ST, per_class_CST)))
            self.confusion += confusion.sum(dim=(0, 1))
        self._add(torch.cat(scores, dim=-1), last)

    def compute(self) -> SegmentationScores:
        """Curves over all clips so far, and the dataset IoU of each class."""
        miou, accuracy, *classes = self.curves().values()
        overall = class_iou(self.confusion).cpu().numpy()
        return SegmentationScores(miou, accuracy, overall, tuple(classes))
