"""Sample diversity: mean pairwise 1 - mIoU between the sampled futures of a clip.

Shapes: S samples, P consecutive steps, H height, W width, C classes.
"""

from typing import Any

import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.metrics.horizon import HorizonCurve, HorizonMetric
from hvp.precision import without_autocast


def diversity(samples_SPHW: Tensor, n_classes: int) -> Tensor:
    """Sample diversity: mean over all pairs of samples of 1 - mIoU, frame by frame.

    Definition. The mIoU of a pair is symmetric: the mean IoU over the classes present in EITHER
    frame (a class in only one of them counts 0). Pixels whose id is no class (`IGNORE`) belong to
    no class.

    Args:
        samples_SPHW: uint8 label maps of one clip, S at least 2.
        n_classes: number of classes C.

    Returns:
        float64 (P,), in 0..1: 0 where all samples are equal. NaN where a pair has no class at all.

    Raises:
        DataError: fewer than 2 samples.

    Example:
        >>> diversity(torch.tensor([[[[0, 0, 1, 1]]], [[[0, 0, 1, 2]]]], dtype=torch.uint8), 3)
        tensor([0.5000], dtype=torch.float64)
    """
    n_samples, n_steps = samples_SPHW.shape[:2]
    if n_samples < 2:
        raise DataError(
            f"diversity: {n_samples} sample(s) of a clip, expected at least 2; draw more samples"
        )
    first, second = torch.triu_indices(n_samples, n_samples, offset=1)
    scores = [_pairwise_miou(frame.flatten(1), n_classes)[first, second].mean()
              for frame in samples_SPHW.unbind(1)]  # fmt: skip
    return 1.0 - torch.stack(scores) if n_steps else samples_SPHW.new_zeros(0).double()


@without_autocast
def _pairwise_miou(labels_SN: Tensor, n_classes: int) -> Tensor:
    """Pairwise mIoU (S, S) float64 of label maps with N pixels."""
    n_samples, n_pixels = labels_SN.shape
    # Counts are exact in float32 up to 2^24 pixels, and its matrix product is the fastest.
    dtype = torch.float32 if n_pixels < 2**24 else torch.float64
    total = torch.zeros((n_samples, n_samples), dtype=torch.float64, device=labels_SN.device)
    present = torch.zeros_like(total)
    for label in range(n_classes):
        mask_SN = (labels_SN == label).to(dtype)
        both = (mask_SN @ mask_SN.T).double()
        sizes_S = both.diagonal()
        union = sizes_S[:, None] + sizes_S[None, :] - both
        total += both / union.clamp(min=1.0)
        present += union > 0
    return total / present


class HorizonDiversity(HorizonMetric):
    """Sample diversity of clips per predicted step; needs no ground truth.

    Args:
        n_classes: number of classes C.
        horizon: number of predicted steps T.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> metric = HorizonDiversity(n_classes=2, horizon=2)
        >>> metric.update(torch.tensor([[[[0]], [[0]]], [[[0]], [[1]]]], dtype=torch.uint8))
        >>> metric.compute().mean
        array([0., 1.])
    """

    def __init__(self, n_classes: int, horizon: int, **kwargs: Any) -> None:
        super().__init__(("diversity",), horizon, **kwargs)
        self.n_classes = n_classes

    def update(self, samples_SPHW: Tensor, last: bool = True) -> None:
        """Add the samples of a clip, or a chunk of consecutive steps of them.

        Args:
            samples_SPHW: uint8 label maps of the predicted steps, S at least 2, on any device.
            last: whether this chunk ends the clip.

        Raises:
            DataError: fewer than 2 samples, or the clip exceeds the horizon.
        """
        scores_P = diversity(samples_SPHW.to(self.device), self.n_classes)
        self._add(scores_P.view(1, 1, -1), last)

    def compute(self) -> HorizonCurve:
        """Diversity curve over all clips so far; its `best` equals its `mean`."""
        return self.curves()["diversity"]
