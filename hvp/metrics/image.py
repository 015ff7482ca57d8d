"""PSNR and SSIM of RGB frames, and their curves over the horizon.

Shapes: S samples, P consecutive steps (or N frames of any kind), H height, W width. Frames are
uint8 (3, H, W); the data range is 255.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from hvp.errors import DataError
from hvp.metrics.horizon import HorizonCurve, HorizonMetric
from hvp.precision import without_autocast

_SSIM_WINDOW = 11


def psnr(prediction_N3HW: Tensor, truth_N3HW: Tensor, ceiling: float = 100.0) -> Tensor:
    """Peak signal-to-noise ratio (PSNR) of each frame in dB, over all pixels and channels.

    Args:
        prediction_N3HW: uint8 frames.
        truth_N3HW: uint8 frames of the same shape.
        ceiling: value in dB of identical frames, whose PSNR is infinite.

    Returns:
        float64 (N,).

    Example:
        >>> truth = torch.zeros((1, 3, 8, 8), dtype=torch.uint8)
        >>> psnr(truth + 1, truth)
        tensor([48.1308], dtype=torch.float64)
    """
    error = prediction_N3HW.double() - truth_N3HW.double()
    mse_N = error.square().flatten(1).mean(dim=1)
    return (10.0 * torch.log10(255.0**2 / mse_N)).clamp(max=ceiling)


@without_autocast
def ssim(prediction_N3HW: Tensor, truth_N3HW: Tensor) -> Tensor:
    """Structural similarity (SSIM; Wang et al. 2004) of each frame: Gaussian 11x11, sigma 1.5.

    As in the paper and in scikit-image (`gaussian_weights=True, use_sample_covariance=False`), only
    windows that lie within the frame count. Computed per channel in float32 with torchmetrics, and
    averaged over channels and windows.

    Args:
        prediction_N3HW: uint8 frames, H and W at least 11.
        truth_N3HW: uint8 frames of the same shape.

    Returns:
        float64 (N,), at most 1.

    Raises:
        DataError: the frames are smaller than a window.

    Example:
        >>> frames = torch.arange(432, dtype=torch.int32).view(1, 3, 12, 12).to(torch.uint8)
        >>> ssim(frames, frames)
        tensor([1.], dtype=torch.float64)
    """
    if min(truth_N3HW.shape[-2:]) < _SSIM_WINDOW:
        raise DataError(
            f"SSIM: frames of {tuple(truth_N3HW.shape[-2:])} pixels are smaller than its window of "
            f"{_SSIM_WINDOW}x{_SSIM_WINDOW}; evaluate at a larger dataset.size"
        )
    result = structural_similarity_index_measure(
        prediction_N3HW.float() / 255.0,
        truth_N3HW.float() / 255.0,
        sigma=1.5,
        data_range=1.0,
        reduction=None,
        return_full_image=True,
    )
    assert isinstance(result, tuple)  # always, with return_full_image
    border = _SSIM_WINDOW // 2  # windows here overlap the reflection padding
    inner_N3HW = result[1][..., border:-border, border:-border]
    return inner_N3HW.flatten(1).double().mean(dim=1)


class HorizonImageMetric(HorizonMetric):
    """Base metric of RGB frames against ground truth, per predicted step.

    Each metric selects its own best of a clip's S samples, by the mean over the clip (the SVG
    protocol; see `hvp.metrics.horizon`). A subclass scores frames in `_score`.
    """

    def update(self, samples_SP3HW: Tensor, truth_P3HW: Tensor, last: bool = True) -> None:
        """Add a clip, or a chunk of consecutive steps of one (memory: one chunk).

        Args:
            samples_SP3HW: uint8 predicted frames, without context, on any device.
            truth_P3HW: uint8 ground truth from the same step on; steps behind its end are not
                scored.
            last: whether this chunk ends the clip.

        Raises:
            DataError: the clip exceeds the horizon.
        """
        n_samples = len(samples_SP3HW)
        n_steps = min(samples_SP3HW.shape[1], len(truth_P3HW))
        if n_steps == 0:
            empty = torch.zeros((len(self.names), n_samples, 0), device=self.device)
            self._add(empty, last)
            return
        prediction = samples_SP3HW[:, :n_steps].to(self.device)
        truth = truth_P3HW[:n_steps].to(self.device).expand_as(prediction)
        scores_KN = self._score(prediction.flatten(0, 1), truth.flatten(0, 1))
        self._add(scores_KN.unflatten(1, (n_samples, n_steps)), last)

    def _score(self, prediction_N3HW: Tensor, truth_N3HW: Tensor) -> Tensor:
        """Scores (K, N) of N pairs of uint8 frames."""
        raise NotImplementedError


class ImageScores(NamedTuple):
    """Result of `HorizonImageQuality`."""

    psnr: HorizonCurve
    """PSNR in dB."""
    ssim: HorizonCurve
    """SSIM."""


class HorizonImageQuality(HorizonImageMetric):
    """PSNR and SSIM of predicted frames per predicted step.

    Args:
        horizon: number of predicted steps T.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> truth = torch.zeros((2, 3, 12, 12), dtype=torch.uint8)
        >>> metric = HorizonImageQuality(horizon=3)
        >>> metric.update(torch.stack((truth + 1, truth + 2)), truth)
        >>> metric.compute().psnr.best.round(2)
        array([48.13, 48.13,   nan])
    """

    def __init__(self, horizon: int, **kwargs: Any) -> None:
        super().__init__(("psnr", "ssim"), horizon, **kwargs)

    def _score(self, prediction_N3HW: Tensor, truth_N3HW: Tensor) -> Tensor:
        pair = prediction_N3HW, truth_N3HW
        return torch.stack((psnr(*pair), ssim(*pair)))

    def compute(self) -> ImageScores:
        """PSNR and SSIM curves over all clips so far."""
        return ImageScores(**self.curves())
