"""Convolutional layers of SVG-LP: encoder, decoder with skip connections, batch norm.

Source: Lee et al., "Revisiting Hierarchical Approach for Persistent Long-Term Video Prediction",
ICLR 2021 (arXiv 2104.06697), section 3.1 and its released training settings.

Shapes: N maps (time-major, T frames of B clips, unless noted), B batch, T time, K channels
of a layer, C classes, H W image size, h w latent size, g latent width, z noise width,
r width of the ConvLSTMs, n base width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvp.errors import ConfigError

State = tuple[Tensor, Tensor]
"""Hidden and cell state of one ConvLSTM cell, each (B, r, h, w)."""


@dataclass(frozen=True)
class Architecture:
    """Layer widths of encoder and decoder for one image size, in multiples of the base width n."""

    encoder: tuple[tuple[int, int], ...]
    """(width, number of convolutions) per level, finest level first."""
    decoder: tuple[tuple[int, ...], ...]
    """Widths of each level's convolutions, deepest level first; the output layer is not listed."""
    pool_deepest: bool
    """Whether another 2x2 max-pooling follows the deepest level."""

    @property
    def reduction(self) -> int:
        """Downsampling factor from image to latent, along one axis."""
        return 2 ** (len(self.encoder) - (not self.pool_deepest))


ARCHITECTURES = {
    (64, 64): Architecture(
        encoder=((1, 2), (2, 2), (4, 3)),
        decoder=((4, 4, 2), (2, 1), (1,)),
        pool_deepest=True,
    ),
    (128, 128): Architecture(
        encoder=((1, 2), (2, 2), (4, 3), (8, 3)),
        decoder=((8, 8, 4), (4, 4, 2), (2, 1), (1,)),
        pool_deepest=True,
    ),
    (256, 256): Architecture(
        encoder=((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)),
        decoder=((8, 8, 8), (8, 8, 4), (4, 4, 2), (2, 1), (1,)),
        pool_deepest=True,
    ),
    (128, 256): Architecture(
        encoder=((1, 2), (2, 2), (4, 3), (4, 3), (4, 3)),
        decoder=((4, 4, 4), (4, 4, 4), (4, 4, 2), (2, 1), (1,)),
        pool_deepest=False,
    ),
}
"""Published layer widths by image size (H, W)."""


def architecture(size: Sequence[int]) -> Architecture:
    """Look up the published layer widths for an image size (H, W).

    Raises:
        ConfigError: no published network has that size.
    """
    key = tuple(size)
    if key not in ARCHITECTURES:
        supported = ", ".join(f"{height}x{width}" for height, width in ARCHITECTURES)
        found = "x".join(map(str, key))
        raise ConfigError(
            f"structure generator: size {found} (H x W) is not supported; choose one of {supported}"
        )
    return ARCHITECTURES[key]


def conv3x3(in_width: int, out_width: int) -> nn.Conv2d:
    """3x3 convolution, padding 1, zero bias; `SVGLPNetwork` draws the weights."""
    conv = nn.Conv2d(in_width, out_width, kernel_size=3, padding=1)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class PerCallBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with separate statistics per time step, for a batch that holds many time steps.

    The published loop calls encoder and decoder once per time step. Here all steps are in one
    time-major batch, and `calls` lists the order in which that loop visits them (a frame encoded
    twice appears twice), so that outputs and running statistics are the same.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, maps_NKHW: Tensor, calls: Sequence[int] | None = None) -> Tensor:
        """Normalise (N, K, H, W); in training mode N splits evenly over the distinct `calls`."""
        if not self.training:
            return super().forward(maps_NKHW)
        if calls is None:
            raise RuntimeError("batch norm is in training mode: call eval() before a rollout")
        outputs, statistics = [], []
        for maps_BKHW in maps_NKHW.chunk(max(calls) + 1):
            mean, variance = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)
            outputs.append(
                # Momentum 1 leaves this call's own statistics in `mean` and `variance`.
                F.batch_norm(maps_BKHW, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            )
            statistics.append((mean, variance))
        for call in calls:
            mean, variance = statistics[call]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked += len(calls)
        return torch.cat(outputs)


class ConvBlock(nn.Module):
    """3x3 convolution, optional batch norm, ReLU."""

    def __init__(self, in_width: int, out_width: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv = conv3x3(in_width, out_width)
        self.bn = PerCallBatchNorm2d(out_width) if batch_norm else None
        if self.bn is not None:
            nn.init.normal_(self.bn.weight, 1.0, 0.02)

    def activate(self, maps_NKHW: Tensor, calls: Sequence[int] | None) -> Tensor:
        """Batch norm (if any) and ReLU, in place: (N, out_width, H, W)."""
        if self.bn is not None:
            maps_NKHW = self.bn(maps_NKHW, calls)
        return F.relu(maps_NKHW, inplace=True)

    def forward(self, maps_NKHW: Tensor, calls: Sequence[int] | None) -> Tensor:
        """(N, K, H, W) to (N, out_width, H, W)."""
        return self.activate(self.conv(maps_NKHW), calls)


class Encoder(nn.Module):
    """Encoder (VGG-like): one-hot label maps to a latent and one skip connection per level."""

    def __init__(
        self,
        n_classes: int,
        size: Sequence[int],
        base_width: int,
        latent_width: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        table = architecture(size)
        self.pool_deepest = table.pool_deepest
        self.levels = nn.ModuleList()
        width = n_classes
        for multiple, depth in table.encoder:
            level = nn.ModuleList()
            for _ in range(depth):
                level.append(ConvBlock(width, multiple * base_width, batch_norm))
                width = multiple * base_width
            self.levels.append(level)
        self.bottleneck = conv3x3(width, latent_width)

    def forward(
        self, one_hot_NCHW: Tensor, calls: Sequence[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Latent (N, g, h, w) and the skips (N, K, H / 2^level, W / 2^level), finest first."""
        x = one_hot_NCHW
        skips: list[Tensor] = []
        for level in self.levels:
            if skips:
                x = F.max_pool2d(x, 2)
            for block in cast(nn.ModuleList, level):
                x = block(x, calls)
            skips.append(x)
        if self.pool_deepest:
            x = F.max_pool2d(x, 2)
        return F.relu(self.bottleneck(x)), skips


def upsampled_conv3x3(x_NKhw: Tensor, weight: Tensor) -> Tensor:
    """Nearest-neighbour 2x upsampling and 3x3 convolution (pad 1, no bias) in one: (N, K', 2h, 2w).

    Upsampling is a transposed convolution with a 2x2 kernel of ones; combined with the 3x3
    convolution it is one transposed convolution with a 4x4 kernel, the sum of four shifted copies
    of the 3x3 kernel: 4 instead of 9 multiplications per output pixel and channel pair.
    """
    kernel = F.pad(weight.transpose(0, 1).flip(2, 3), (1, 1, 1, 1))
    kernel = kernel[..., 1:, :] + kernel[..., :-1, :]
    kernel = kernel[..., 1:] + kernel[..., :-1]
    return F.conv_transpose2d(x_NKhw, kernel, stride=2, padding=1)


class DecoderLevel(nn.Module):
    """Decoder level: convolutions of the upsampled deeper map concatenated with the encoder's skip.

    Convolving a concatenation is the sum of two convolutions. The skip's term is computed
    separately (`skip_term`), because a frozen skip is shared by many time steps and samples.
    """

    def __init__(
        self, below: int, skip: int, widths: Sequence[int], upsample: bool, batch_norm: bool
    ) -> None:
        super().__init__()
        self.below = below
        self.upsample = upsample
        in_widths = (below + skip, *widths[:-1])
        self.blocks = nn.ModuleList(
            ConvBlock(i, o, batch_norm) for i, o in zip(in_widths, widths, strict=True)
        )

    def skip_term(self, skip_NKHW: Tensor) -> Tensor:
        """First convolution (with bias) restricted to the skip's channels: (N, widths[0], H, W)."""
        conv = cast(ConvBlock, self.blocks[0]).conv
        return F.conv2d(skip_NKHW, conv.weight[:, self.below :], conv.bias, padding=1)

    def forward(self, x: Tensor, skip_term: Tensor, calls: Sequence[int] | None) -> Tensor:
        """Deeper map (N, below, H', W') and skip term to (N, widths[-1], H, W)."""
        first = cast(ConvBlock, self.blocks[0])
        weight = first.conv.weight[:, : self.below]
        x = upsampled_conv3x3(x, weight) if self.upsample else F.conv2d(x, weight, padding=1)
        x = first.activate(x + skip_term, calls)
        for block in self.blocks[1:]:
            x = block(x, calls)
        return x


class Decoder(nn.Module):
    """Decoder: latent and skip connections to class scores; mirrors the encoder."""

    def __init__(
        self,
        n_classes: int,
        size: Sequence[int],
        base_width: int,
        latent_width: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        table = architecture(size)
        self.levels = nn.ModuleList()
        below = latent_width
        for depth, (multiples, (skip, _)) in enumerate(
            zip(table.decoder, reversed(table.encoder), strict=True)
        ):
            widths = [multiple * base_width for multiple in multiples]
            upsample = depth > 0 or table.pool_deepest
            self.levels.append(DecoderLevel(below, skip * base_width, widths, upsample, batch_norm))
            below = widths[-1]
        self.classes = conv3x3(below, n_classes)

    def skip_terms(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """`DecoderLevel.skip_term` of each level, deepest first, from the encoder's skips."""
        levels = cast(Iterable[DecoderLevel], self.levels)
        return [level.skip_term(skip) for level, skip in zip(levels, reversed(skips), strict=True)]

    def forward(
        self,
        latent_Nghw: Tensor,
        skip_terms: Sequence[Tensor],
        calls: Sequence[int] | None = None,
    ) -> Tensor:
        """Logits (N, C, H, W)."""
        x = latent_Nghw
        for level, term in zip(self.levels, skip_terms, strict=True):
            x = level(x, term, calls)
        return self.classes(x)
