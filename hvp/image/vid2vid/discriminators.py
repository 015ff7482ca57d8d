"""Patch discriminators over single images and over short groups of frames.

Shapes: B batch, G groups (B times groups per clip), F frames per group (`n_frames_D`), C classes.
A discriminator returns, per scale, every feature map from the first layer to the patch scores.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvp.image.vid2vid.layers import initialise, norm_layer

Maps = list[list[Tensor]]

_WIDEST_LAYER = 512
_WIDEST_FIRST_LAYER = 64


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al. 2017): 4x4 convolutions, leaky ReLU 0.2, one score per patch."""

    def __init__(self, in_width: int, width: int, n_layers: int, norm: str) -> None:
        super().__init__()
        make_norm = norm_layer(norm)

        def convolution(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 4, stride=stride, padding=2)

        layers = [nn.Sequential(convolution(in_width, width, 2), nn.LeakyReLU(0.2))]
        for stride in [2] * (n_layers - 1) + [1]:
            wider = min(2 * width, _WIDEST_LAYER)
            layers.append(
                nn.Sequential(
                    convolution(width, wider, stride), make_norm(wider), nn.LeakyReLU(0.2)
                )
            )
            width = wider
        layers.append(nn.Sequential(convolution(width, 1, 1)))
        self.layers = nn.ModuleList(layers)

    def forward(self, x_BDHW: Tensor) -> list[Tensor]:
        """Feature maps of all layers; the last one holds the patch scores (B, 1, h, w)."""
        maps = []
        for layer in self.layers:
            x_BDHW = layer(x_BDHW)
            maps.append(x_BDHW)
        return maps


class MultiscaleDiscriminator(nn.Module):
    """`num_D` patch discriminators: the first sees the full image, each next one half of it.

    The coarser a scale, the wider its layers: `ndf * 2**i`, at most 64.
    """

    def __init__(self, in_width: int, ndf: int, n_layers: int, num_D: int, norm: str) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            PatchDiscriminator(in_width, min(_WIDEST_FIRST_LAYER, ndf * 2**i), n_layers, norm)
            for i in range(num_D)
        )
        initialise(self)

    def forward(self, x_BDHW: Tensor) -> Maps:
        """Feature maps of every scale, finest first."""
        maps = []
        for i, scale in enumerate(self.scales):
            if i > 0:
                x_BDHW = F.avg_pool2d(x_BDHW, 3, stride=2, padding=1, count_include_pad=False)
            maps.append(scale(x_BDHW))
        return maps


class ImageDiscriminator(MultiscaleDiscriminator):
    """Judges one frame together with its label map."""

    def __init__(self, n_classes: int, ndf: int, n_layers: int, num_D: int, norm: str) -> None:
        super().__init__(n_classes + 3, ndf, n_layers, num_D, norm)

    @staticmethod
    def inputs(labels_BCHW: Tensor, image_B3HW: Tensor) -> Tensor:
        """One-hot labels and RGB in [-1, 1] as one input (B, C+3, H, W)."""
        return torch.cat([labels_BCHW, image_B3HW], dim=1)


class TemporalDiscriminators(nn.Module):
    """Judges how frames follow each other: one discriminator per temporal scale.

    Args:
        n_scales_temporal: scale s sees frames `n_frames_D**s` apart.
        n_frames_D: frames F per group.
        ndf, n_layers, num_D, norm: as in `MultiscaleDiscriminator`.
        flow_scale: the flow between the frames enters divided by this many pixels.
    """

    def __init__(
        self,
        n_scales_temporal: int,
        n_frames_D: int,
        ndf: int,
        n_layers: int,
        num_D: int,
        norm: str,
        flow_scale: float,
    ) -> None:
        super().__init__()
        self.n_frames_D = n_frames_D
        self.flow_scale = flow_scale
        in_width = 3 * n_frames_D + 2 * (n_frames_D - 1)
        self.scales = nn.ModuleList(
            MultiscaleDiscriminator(in_width, ndf, n_layers, num_D, norm)
            for _ in range(n_scales_temporal)
        )

    def inputs(self, frames_GF3HW: Tensor, flow_GE2HW: Tensor) -> Tensor:
        """Frames in [-1, 1] and the E = F-1 flows between them, in pixels, as one input."""
        return torch.cat(
            [frames_GF3HW.flatten(1, 2), flow_GE2HW.flatten(1, 2) / self.flow_scale], dim=1
        )
