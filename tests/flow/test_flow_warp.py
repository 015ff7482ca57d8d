"""Backward warping and confidence masks against a loop over pixels."""

import math

import pytest
import torch
from torch import Tensor

from hvp.flow.warp import confidence, warp


def warp_by_loop(image: Tensor, flow: Tensor) -> Tensor:
    """(3, H, W) sampled at p + flow(p), bilinear, coordinates clamped to the image."""
    height, width = image.shape[-2:]
    result = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            u = min(max(x + flow[0, y, x].item(), 0), width - 1)
            v = min(max(y + flow[1, y, x].item(), 0), height - 1)
            left, top = min(math.floor(u), width - 2), min(math.floor(v), height - 2)
            a, b = u - left, v - top
            result[:, y, x] = (
                (1 - a) * (1 - b) * image[:, top, left]
                + a * (1 - b) * image[:, top, left + 1]
                + (1 - a) * b * image[:, top + 1, left]
                + a * b * image[:, top + 1, left + 1]
            )
    return result


def test_warp_matches_a_loop_over_pixels() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    flow = torch.randn(2, 2, 7, 9, dtype=torch.float64) * 4
    expected = torch.stack([warp_by_loop(i, f) for i, f in zip(image, flow, strict=True)])
    torch.testing.assert_close(warp(image, flow), expected)


def test_zero_flow_changes_nothing() -> None:
    image = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(warp(image, torch.zeros(1, 2, 5, 6)), image)


def test_warp_is_differentiable_in_image_and_flow() -> None:
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    flow = torch.rand(1, 2, 4, 4, dtype=torch.float64).mul(0.8).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, f: warp(i, f), (image, flow))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_flow_keeps_its_pixels(dtype: torch.dtype) -> None:
    image = torch.arange(600.0).expand(1, 1, 2, 600)
    warped = warp(image, torch.ones(1, 2, 2, 600, dtype=dtype))
    torch.testing.assert_close(warped[0, 0, 0, :-1], image[0, 0, 0, 1:], rtol=0, atol=1e-3)


def test_confidence_sums_squared_differences_over_channels() -> None:
    previous = torch.zeros(1, 3, 1, 3)
    current = torch.tensor([0.08, 0.0817, 0.5]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    trusted = confidence(current, previous, torch.zeros(1, 2, 1, 3), threshold=0.02)
    assert trusted.tolist() == [[[[1.0, 0.0, 0.0]]]]  # 3 * 0.08**2 = 0.0192, 3 * 0.0817**2 > 0.02


def test_unknown_flow_gives_unknown_pixels_and_no_crash() -> None:
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0, 3:60] = torch.nan
    flow[:, 1, 62] = torch.inf
    warped = warp(image, flow)
    assert warped[:, :, 3:60].isnan().all()
    torch.testing.assert_close(warped[:, :, :3], image[:, :, :3])
    assert warped[:, :, 60:].isfinite().all()
    warped.nansum().backward()
