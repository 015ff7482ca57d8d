"""PatchGAN discriminators of single images and of short groups of frames (temporal).

Shapes: B batch, G groups (B times groups per clip), F frames per group (`n_frames_D`), C classes.
A discriminator returns the feature maps of all layers per scale; the last are the patch scores.
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
    """Multi-scale discriminator: `num_D` PatchGANs, each at half the resolution of the one before.

    The first layer of scale i has `ndf * 2**i` channels, at most 64.
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
    """Image discriminator, conditioned on the label map of the frame."""

    def __init__(self, n_classes: int, ndf: int, n_layers: int, num_D: int, norm: str) -> None:
        super().__init__(n_classes + 3, ndf, n_layers, num_D, norm)

    @staticmethod
    def inputs(labels_BCHW: Tensor, image_B3HW: Tensor) -> Tensor:
        """Concatenate one-hot labels and RGB in [-1, 1] to the input (B, C+3, H, W)."""
        return torch.cat([labels_BCHW, image_B3HW], dim=1)


class TemporalDiscriminators(nn.Module):
    """Temporal (video) discriminators of groups of frames: one per temporal scale.

    Args:
        n_scales_temporal: scale s sees frames `n_frames_D**s` apart.
        n_frames_D: frames F per group.
        ndf, n_layers, num_D, norm: as in `MultiscaleDiscriminator`.
        flow_scale: divisor of the flow between the frames, pixels.
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
        """Concatenate frames in [-1, 1] and E = F-1 flows between them (pixels) to an input."""
        return torch.cat(
            [frames_GF3HW.flatten(1, 2), flow_GE2HW.flatten(1, 2) / self.flow_scale], dim=1
        )
