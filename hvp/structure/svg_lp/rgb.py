"""SVG-LP on RGB: the pixel-space baseline, without structure.

The layers of `SVGLPNetwork` with 3 channels instead of C classes: input in 0..1, sigmoid output,
mean squared error; roll-outs feed back their own frames (Denton & Fergus, "Stochastic Video
Generation with a Learned Prior", ICML 2018).

Shapes: B clips, T frames, S samples, N frames x B maps, H image height, W width.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hvp.clips import ClipBatch
from hvp.errors import ConfigError
from hvp.model import Chart
from hvp.precision import full_precision
from hvp.structure.svg_lp.module import SVGLP
from hvp.structure.svg_lp.network import SVGLPNetwork


class PixelNetwork(SVGLPNetwork):
    """SVG-LP network on RGB: takes frames (..., 3, H, W), uint8 or (in roll-outs) float in 0..1,
    where `SVGLPNetwork` takes label maps (..., H, W). `TrainingPass.nll_T` holds the MSE.
    """

    def __init__(
        self,
        size: Sequence[int],
        n_past: int,
        base_width: int = 64,
        latent_width: int = 128,
        noise_width: int = 128,
        rnn_width: int = 256,
        batch_norm: bool = False,
        init_std: float | None = 0.02,
    ) -> None:
        """Arguments and errors as in `SVGLPNetwork`, without `n_classes`."""
        super().__init__(
            3, size, n_past, base_width, latent_width, noise_width, rnn_width, batch_norm, init_std
        )

    def embed(self, frames_N3HW: Tensor) -> Tensor:
        """Encoder input: frames in 0..1 (N, 3, H, W), channels-last."""
        dtype = self.predictor.embed.weight.dtype
        frames = frames_N3HW.to(dtype)
        if frames_N3HW.dtype == torch.uint8:
            frames = frames / 255.0
        return frames.contiguous(memory_format=torch.channels_last)

    def output_frame(self, scores_N3HW: Tensor) -> Tensor:
        """Output frame, float (N, 3, H, W) in 0..1, which a roll-out yields and feeds back."""
        return torch.sigmoid(scores_N3HW)

    def reconstruction_loss(self, scores_TB3HW: Tensor, frames_TB3HW: Tensor) -> Tensor:
        """Reconstruction loss (T,): MSE of frames in 0..1 over batch, channels and pixels."""
        scores_TB3HW = full_precision(scores_TB3HW)
        truth = frames_TB3HW.to(scores_TB3HW.dtype) / 255.0
        return (self.output_frame(scores_TB3HW) - truth).square().flatten(1).mean(1)

    def _check(self, frames_BT3HW: Tensor, skip_policy: str) -> None:
        if frames_BT3HW.shape[2] != 3:
            raise ConfigError(
                f"SVG-LP on RGB: clips are {tuple(frames_BT3HW.shape)}, expected (B, T, 3, H, W)"
            )
        super()._check(frames_BT3HW[:, :, 0], skip_policy)


class PixelSVGLP(SVGLP):
    """SVG-LP on RGB, as a LightningModule around `PixelNetwork`; see `SVGLP`."""

    error_name = "mse"
    channel = "frames"
    charts = (
        Chart("loss", ("train/loss", "val/loss"), log_scale=True),
        Chart("reconstruction", ("train/mse", "val/mse")),
        Chart("KL", ("train/kl", "val/kl")),
    )

    def stream_futures(
        self, batch: ClipBatch, horizon: int, n_samples: int, seed: int
    ) -> Iterator[Tensor]:
        """Roll-out as in `SVGLP`; yields RGB (B, S, 3, H, W) uint8."""
        for frames in super().stream_futures(batch, horizon, n_samples, seed):
            yield (frames * 255.0).round().to(torch.uint8)
