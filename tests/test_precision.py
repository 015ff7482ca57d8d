"""Losses and metrics in float32, however low the precision of what they are given."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from hvp.flow.warp import confidence
from hvp.image.vid2vid.losses import VGG19Perceptual, feature_matching, gan_loss, masked_l1
from hvp.metrics.diversity import diversity
from hvp.metrics.image import ssim
from hvp.structure.svg_lp.network import gaussian_kl, negative_log_likelihood
from hvp.structure.svg_lp.rgb import PixelNetwork
from tests.helpers.svg_lp import build, draw_labels

GENERATOR = torch.Generator().manual_seed(11)


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def labels(*shape: int) -> Tensor:
    return torch.randint(5, shape, generator=GENERATOR, dtype=torch.uint8)


def pixel_loss(scores: Tensor, frames: Tensor) -> Tensor:
    return PixelNetwork.reconstruction_loss(PixelNetwork((64, 64), 1, 2, 2, 2, 2), scores, frames)


def scales(*maps: Tensor) -> list[list[Tensor]]:
    return [list(maps[:2]), list(maps[2:])]


FRAMES = torch.randint(256, (2, 1, 3, 8, 8), generator=GENERATOR, dtype=torch.uint8)
TRUTH = labels(3, 2, 8, 8)
CASES = {
    # Nearly equal distributions: in bfloat16 this KL comes out below zero.
    "kl": (gaussian_kl, [draw(4, 3, 2, 2), *[draw(4, 3, 2, 2) * 0.01 for _ in range(3)]]),
    "nll": (lambda scores: negative_log_likelihood(scores, TRUTH), [draw(3, 2, 5, 8, 8)]),
    "balanced": (lambda scores: negative_log_likelihood(scores, TRUTH, 0.7), [draw(3, 2, 5, 8, 8)]),
    "pixels": (lambda scores: pixel_loss(scores, FRAMES), [draw(2, 1, 3, 8, 8)]),
    "l1": (masked_l1, [draw(2, 3, 8, 8), draw(2, 3, 8, 8), draw(2, 1, 8, 8).sign().relu()]),
    "gan": (lambda *maps: gan_loss(scales(*maps), True), [draw(2, 1, 9, 9) for _ in range(4)]),
    "features": (
        lambda *maps: feature_matching(scales(*maps[:4]), scales(*maps[4:])),
        [draw(2, 3, 9, 9) for _ in range(8)],
    ),
}


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_losses_are_float32_and_those_of_float64(
    name: str, dtype: torch.dtype, autocast: bool
) -> None:
    loss, inputs = CASES[name]
    inputs = [value.to(dtype) for value in inputs]
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        found = loss(*inputs)
    assert found.dtype == torch.float32
    expected = loss(*[value.double() for value in inputs])
    assert expected.dtype == torch.float64
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_kl_is_not_negative() -> None:
    mean, logvar = draw(64, 3, 4, 4), draw(64, 3, 4, 4)
    for dtype in (torch.bfloat16, torch.float32):
        same = (mean.to(dtype), logvar.to(dtype))
        near = (mean.to(dtype) + 1e-3, logvar.to(dtype) - 1e-3)
        for other in (same, near):
            assert (gaussian_kl(*same, *other) >= 0).all()


@pytest.mark.parametrize("half", [True, False])
def test_training_pass_in_low_precision_has_losses_in_float32(half: bool) -> None:
    model = build((64, 64)).float()
    model = model.bfloat16() if half else model
    with nullcontext() if half else torch.autocast("cpu", torch.bfloat16):
        result = model.training_pass(draw_labels((64, 64)), "latest")
    assert result.nll_T.dtype == result.kl_T.dtype == result.loss(1e-4).dtype == torch.float32
    assert (result.kl_T >= 0).all()


def test_perceptual_loss_and_metrics_do_not_follow_autocast() -> None:
    vgg = VGG19Perceptual.__new__(VGG19Perceptual)
    vgg.layer_weights = [1.0]
    vgg._slices = torch.nn.ModuleList([torch.nn.Conv2d(3, 8, 3)]).requires_grad_(False)
    fake, real = draw(1, 3, 16, 16), draw(1, 3, 16, 16)
    one, other = (labels(2, 3, 16, 16) for _ in range(2))
    samples = labels(3, 2, 32, 32)
    measures = {
        "vgg": lambda: vgg(fake, real),
        "ssim": lambda: ssim(one, other),
        "diversity": lambda: diversity(samples, 5),
        "confidence": lambda: confidence(fake, real, fake[:, :2], 1.0),
    }
    for name, measure in measures.items():
        plain = measure()
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(measure(), plain, rtol=0, atol=0, msg=name)
    assert vgg(fake.bfloat16(), real.bfloat16()).dtype == torch.float32
