"""FVD with the real network on real dash-cam clips: small for real ones, growing with damage."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from hvp.metrics.i3d_weights import load_i3d
from hvp.metrics.video import FVD
from tests.helpers.real_driving import I3D, SEQUENCES, frames, needs_real_data

pytestmark = needs_real_data

N_WINDOWS = 7  # of each set; far fewer than for a published number, enough for an order


def real_windows(offset: int) -> Tensor:
    """Windows from all sequences (N_WINDOWS, 16, 3, 128, 256) that do not overlap."""
    starts = [(SEQUENCES[n % 3], 24 * (n // 3) + offset) for n in range(N_WINDOWS)]
    return torch.stack([frames(name, first, 16) for name, first in starts])


def noisy(windows: Tensor, strength: float) -> Tensor:
    dice = torch.Generator().manual_seed(0)
    noise = strength * torch.randn(windows.shape, generator=dice)
    return (windows + noise).clamp(0, 255).to(torch.uint8)


def blurred(windows: Tensor, sigma: float) -> Tensor:
    size = 4 * round(sigma) + 1
    return gaussian_blur(windows.flatten(0, 1), [size, size], [sigma, sigma]).view_as(windows)


@pytest.mark.slow
def test_fvd_is_small_between_real_halves_and_grows_with_every_kind_of_damage() -> None:
    torch.set_num_threads(1)
    network = load_i3d(str(I3D), "weights")
    reference = FVD(network)
    reference.update(real_windows(0), real=True)
    other = real_windows(4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    sets = {
        "real": other,
        "weak noise": noisy(other, 10),
        "strong noise": noisy(other, 30),
        "weak blur": blurred(other, 1.0),
        "strong blur": blurred(other, 4.0),
        "frozen": other[:, :1].expand_as(other),
        "shuffled": other[:, order],
    }
    fvd = {}
    for name, windows in sets.items():
        metric = FVD(network)
        metric.copy_real(reference)
        metric.update(windows, real=False)
        fvd[name] = metric.compute().item()
    assert fvd["real"] > 0
    assert all(value > 1.5 * fvd["real"] for name, value in fvd.items() if name != "real")
    assert fvd["real"] < 0.1 * min(fvd["strong noise"], fvd["strong blur"])
    assert fvd["weak noise"] < 0.5 * fvd["strong noise"]
    assert fvd["weak blur"] < 0.5 * fvd["strong blur"]
