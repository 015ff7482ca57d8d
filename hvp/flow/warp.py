"""Backward warping by optical flow, and confidence masks.

Shapes: B batch, H height, W width. Flow is backward, in pixels, x then y:
current(p) = previous(p + flow(p)).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hvp.precision import full_precision


def warp(image_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """Backward warp: samples the image at p + flow(p), bilinear, with border padding.

    Args:
        image_BCHW: float, any number of channels.
        flow_B2HW: float, backward flow in pixels of this size (x, then y).

    Returns:
        The warped image (B, C, H, W), differentiable in both arguments; NaN where the flow is.
    """
    height, width = flow_B2HW.shape[-2:]
    # Half precision cannot resolve neighbouring pixels in wide images.
    flow_B2HW = full_precision(flow_B2HW)
    x_W = torch.arange(width, dtype=flow_B2HW.dtype, device=flow_B2HW.device)
    y_H = torch.arange(height, dtype=flow_B2HW.dtype, device=flow_B2HW.device)
    # grid_sample with align_corners counts -1 as the first and +1 as the last pixel's centre.
    grid_x_BHW = (x_W + flow_B2HW[:, 0]) * (2 / max(width - 1, 1)) - 1
    grid_y_BHW = (y_H[:, None] + flow_B2HW[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid_BHW2 = torch.stack([grid_x_BHW, grid_y_BHW], dim=-1)
    # grid_sample on a CPU reads anywhere in memory where the grid is NaN (a diverged network).
    unknown_BHW2 = grid_BHW2.isnan()
    grid_BHW2 = grid_BHW2.masked_fill(unknown_BHW2, 0.0)
    warped_BCHW = F.grid_sample(
        image_BCHW.to(grid_BHW2.dtype),
        grid_BHW2,
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    unknown_B1HW = unknown_BHW2.any(-1).unsqueeze(1)
    return warped_BCHW.masked_fill(unknown_B1HW, torch.nan).to(image_BCHW.dtype)


def confidence(
    current_B3HW: Tensor, previous_B3HW: Tensor, flow_B2HW: Tensor, threshold: float
) -> Tensor:
    """Confidence mask: where the warped previous frame matches the current one (vid2vid 2018).

    Args:
        current_B3HW, previous_B3HW: RGB in [-1, 1].
        flow_B2HW: backward flow in pixels.
        threshold: largest squared difference, summed over channels, that counts as a match.

    Returns:
        1.0 or 0.0 per pixel, (B, 1, H, W), in the frames' dtype.
    """
    warped_B3HW = warp(full_precision(previous_B3HW), flow_B2HW)
    difference_B3HW = full_precision(current_B3HW) - warped_B3HW
    error_B1HW = difference_B3HW.square().sum(dim=1, keepdim=True)
    return (error_B1HW < threshold).to(current_B3HW.dtype)
