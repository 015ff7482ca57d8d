"""Inflated 3D Inception (I3D) on RGB, and the preprocessing of FVD.

Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset" (CVPR
2017): Inception v1 with three-dimensional kernels, batch normalisation, and TensorFlow's `SAME`
padding. Parameter names are those of the weights published for PyTorch.

Shapes: N windows, T frames, H height, W width, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KINETICS_CLASSES = 400
_SIDE = 224  # input height and width in pixels

# Channels of the Inception blocks: 1x1 | 1x1 then 3x3 | 1x1 then 3x3 | pooled, then 1x1.
_BLOCKS = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def preprocess(videos_NT3HW: Tensor) -> Tensor:
    """I3D preprocessing: bilinear resize to 224x224 (align_corners=False), scaled to -1..1.

    Args:
        videos_NT3HW: uint8 frames of any size.

    Returns:
        float32 (N, 3, T, 224, 224).

    Example:
        >>> video = preprocess(torch.full((1, 2, 3, 8, 4), 255, dtype=torch.uint8))
        >>> video.shape, video.mean().round(decimals=4)
        (torch.Size([1, 3, 2, 224, 224]), tensor(1.))
    """
    n_frames = videos_NT3HW.shape[1]
    frames = videos_NT3HW.flatten(0, 1).float() * (2.0 / 255.0) - 1.0
    frames = F.interpolate(frames, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
    return frames.unflatten(0, (-1, n_frames)).transpose(1, 2)


def _pad_same(x_NCTHW: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    """Zero padding as TensorFlow's `SAME`: symmetric, an odd element goes behind."""
    padding: list[int] = []
    for dim in (2, 1, 0):  # F.pad begins with the last dimension
        size = x_NCTHW.shape[2 + dim]
        reach = (-(-size // stride[dim]) - 1) * stride[dim] + kernel[dim]
        total = max(reach - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x_NCTHW, padding)


class _ConvBNReLU3d(nn.Module):
    """3D convolution (no bias), batch normalisation, ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = [kernel] * 3, [stride] * 3
        self.conv3d = nn.Conv3d(n_in, n_out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(n_out, eps=1e-3)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(_pad_same(x_NCTHW, self.kernel, self.stride))))


class _MaxPool3dSame(nn.Module):
    """3D max pooling with `SAME` padding; zeros are neutral because inputs are never negative."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = list(kernel), list(stride)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        padded = _pad_same(x_NCTHW, self.kernel, self.stride)
        return F.max_pool3d(padded, self.kernel, self.stride)


class _InceptionBlock(nn.Module):
    """Inception block: four parallel branches, concatenated."""

    def __init__(self, n_in: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = _ConvBNReLU3d(n_in, widths[0])
        self.b1a = _ConvBNReLU3d(n_in, widths[1])
        self.b1b = _ConvBNReLU3d(widths[1], widths[2], kernel=3)
        self.b2a = _ConvBNReLU3d(n_in, widths[3])
        self.b2b = _ConvBNReLU3d(widths[3], widths[4], kernel=3)
        self.b3a = _MaxPool3dSame((3, 3, 3), (1, 1, 1))
        self.b3b = _ConvBNReLU3d(n_in, widths[5])

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        branches = (
            self.b0(x_NCTHW),
            self.b1b(self.b1a(x_NCTHW)),
            self.b2b(self.b2a(x_NCTHW)),
            self.b3b(self.b3a(x_NCTHW)),
        )
        return torch.cat(branches, dim=1)


class _LogitsHead(nn.Module):
    """Classifier head: average pooling 2x7x7, 1x1x1 convolution, mean over positions."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(n_in, n_out, 1)

    def forward(self, x_NCTHW: Tensor) -> Tensor:
        return self.conv3d(F.avg_pool3d(x_NCTHW, (2, 7, 7), stride=1)).mean((2, 3, 4))


class InceptionI3d(nn.Sequential):
    """I3D for RGB: video (N, 3, T, 224, 224) in -1..1, T at least 9, to class logits (N, classes).

    Args:
        n_classes: number of classes.
    """

    def __init__(self, n_classes: int = KINETICS_CLASSES) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _ConvBNReLU3d(3, 64, kernel=7, stride=2)
        self.MaxPool3d_2a_3x3 = _MaxPool3dSame((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _ConvBNReLU3d(64, 64)
        self.Conv3d_2c_3x3 = _ConvBNReLU3d(64, 192, kernel=3)
        self.MaxPool3d_3a_3x3 = _MaxPool3dSame((1, 3, 3), (1, 2, 2))
        for name, (n_in, widths) in _BLOCKS.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = _MaxPool3dSame((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = _MaxPool3dSame((2, 2, 2), (2, 2, 2))
            self.add_module(name, _InceptionBlock(n_in, widths))
        self.logits = _LogitsHead(1024, n_classes)
