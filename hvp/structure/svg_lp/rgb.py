"""SVG-LP on RGB: the recurrent model of stage one on pixels, the baseline without structure.

The same networks and recurrences as `SVGLPNetwork`, with 3 channels for C classes: frames in 0..1
go in, a sigmoid comes out, the error is the mean squared one, and roll-outs feed back their own
frames (Denton & Fergus, "Stochastic Video Generation with a Learned Prior", ICML 2018).

Shapes: B clips, T frames, S samples, N frames x B maps, H image height, W width.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hvp.clips import ClipBatch
from hvp.errors import ConfigError
from hvp.model import Chart
from hvp.structure.svg_lp.module import SVGLP
from hvp.structure.svg_lp.network import SVGLPNetwork


class PixelNetwork(SVGLPNetwork):
    """`SVGLPNetwork` over RGB: wherever it takes label maps (..., H, W), this takes frames
    (..., 3, H, W), uint8 or, from its own roll-outs, float in 0..1. `TrainingPass.nll_T` holds the
    mean squared error.
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
        """Arguments and errors are those of `SVGLPNetwork`, without classes."""
        super().__init__(
            3, size, n_past, base_width, latent_width, noise_width, rnn_width, batch_norm, init_std
        )

    def embed(self, frames_N3HW: Tensor) -> Tensor:
        """Frames in 0..1 (N, 3, H, W), channels last in memory."""
        dtype = self.predictor.embed.weight.dtype
        frames = frames_N3HW.to(dtype)
        if frames_N3HW.dtype == torch.uint8:
            frames = frames / 255.0
        return frames.contiguous(memory_format=torch.channels_last)

    def emit(self, scores_N3HW: Tensor) -> Tensor:
        """The frame that a roll-out gives and feeds back, float (N, 3, H, W) in 0..1."""
        return torch.sigmoid(scores_N3HW)

    def error(self, scores_TB3HW: Tensor, frames_TB3HW: Tensor) -> Tensor:
        """Mean squared error (T,) of each frame in 0..1, over batch, channels and pixels."""
        truth = frames_TB3HW.to(scores_TB3HW.dtype) / 255.0
        return (self.emit(scores_TB3HW) - truth).square().flatten(1).mean(1)

    def _check(self, frames_BT3HW: Tensor, skip_policy: str) -> None:
        if frames_BT3HW.shape[2] != 3:
            raise ConfigError(
                f"SVG-LP on RGB: clips are {tuple(frames_BT3HW.shape)}, expected (B, T, 3, H, W)"
            )
        super()._check(frames_BT3HW[:, :, 0], skip_policy)


class PixelSVGLP(SVGLP):
    """SVG-LP on RGB: trains a `PixelNetwork` and samples futures with it; see `SVGLP`."""

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
        """As in `SVGLP`, but yields RGB (B, S, 3, H, W) uint8."""
        for frames in super().stream_futures(batch, horizon, n_samples, seed):
            yield (frames * 255.0).round().to(torch.uint8)
