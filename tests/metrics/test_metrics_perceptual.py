"""LPIPS against torchmetrics and the authors' package, and on real frames with real weights."""

from pathlib import Path

import lpips as authors
import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import lpips
from torchmetrics.functional.image.lpips import _LPIPS
from torchvision.models import alexnet, vgg16

from hvp.errors import ConfigError
from hvp.metrics.image import psnr
from hvp.metrics.perceptual import HorizonLPIPS, LPIPSNetwork, load_lpips, perceptual_distance
from tests.helpers.real_driving import ALEXNET, LPIPS_HEADS, frames, needs_real_data


def random_frames(seed: int, *shape: int) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3, 40, 36), generator=dice, dtype=torch.uint8)


def stand_in() -> LPIPSNetwork:
    return LPIPSNetwork(lambda a, b: (a - b).abs().mean((1, 2, 3)), "mean difference")


@pytest.mark.filterwarnings("ignore:.*weights.*:UserWarning:torchvision")
@pytest.mark.parametrize(("backbone", "build"), [("alex", alexnet), ("vgg", vgg16)])
def test_distance_agrees_with_torchmetrics(backbone: str, build, tmp_path: Path) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        features = build().features
    features.to_empty(device="cpu")
    for parameter in features.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save(state, tmp_path / "backbone.pth")
    ours = load_lpips(backbone, str(tmp_path / "backbone.pth"), "weights")

    with torch.device("meta"):  # no time for random weights that are replaced
        theirs = _LPIPS(pretrained=False, net=backbone, pnet_rand=True)
    names = {name: "features." + name.split(".", 1)[1] for name in theirs.net.state_dict()}
    theirs.net.load_state_dict({ours: state[name] for ours, name in names.items()}, assign=True)
    path = Path(lpips.__file__).parent / f"lpips_models/{backbone}.pth"  # its own copy
    heads = torch.load(path, map_location="cpu", weights_only=True)
    theirs.load_state_dict(heads, strict=False, assign=True)
    prediction, truth = random_frames(1, 18), random_frames(2, 18)  # more than go at once
    expected = theirs(prediction / 127.5 - 1, truth / 127.5 - 1).flatten()
    found = perceptual_distance(prediction, truth, ours)
    assert found.dtype == torch.float64
    assert found.std() > 1e-4
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-6)
    assert perceptual_distance(truth, truth, ours).abs().max() == 0


@needs_real_data
@pytest.mark.filterwarnings("ignore:.*weights.*:UserWarning:torchvision")
def test_distance_is_that_of_the_authors_package_used_as_they_say() -> None:
    theirs = authors.LPIPS(net="alex", pnet_rand=True, verbose=False)  # with its own heads
    weights = torch.load(ALEXNET, map_location="cpu", weights_only=True)
    numbered = {name.removeprefix("features."): value for name, value in weights.items()}
    theirs.net.load_state_dict(
        {name: numbered[name.split(".", 1)[1]] for name in theirs.net.state_dict()}
    )
    film = frames("highway_ca", 0, 3)
    ours = perceptual_distance(film[1:], film[:2], load_lpips("alex", str(ALEXNET), "weights"))
    with torch.no_grad():
        expected = theirs(film[1:] / 255, film[:2] / 255, normalize=True).flatten()
    torch.testing.assert_close(ours.float(), expected, rtol=1e-4, atol=1e-6)


def test_best_sample_has_the_lowest_distance() -> None:
    truth = random_frames(3, 3) // 2
    samples = torch.stack((truth + 60, truth + 20, truth + 40))
    metric = HorizonLPIPS(stand_in(), horizon=4)
    metric.update(samples, truth)
    curve = metric.compute()
    assert metric.last_clip is not None
    assert metric.last_clip.best == (1,)
    np.testing.assert_allclose(curve.best, [40 / 255] * 3 + [np.nan], rtol=1e-6)
    np.testing.assert_allclose(curve.mean, [80 / 255] * 3 + [np.nan], rtol=1e-6)


def test_pieces_of_a_clip_equal_the_whole_clip_and_truth_may_end_early() -> None:
    samples, truth = random_frames(4, 2, 5), random_frames(5, 3)
    whole, pieces = (HorizonLPIPS(stand_in(), horizon=5) for _ in range(2))
    whole.update(samples, truth)
    pieces.update(samples[:, :2], truth[:2], last=False)
    pieces.update(samples[:, 2:], truth[2:])
    np.testing.assert_allclose(whole.compute().mean, pieces.compute().mean, rtol=1e-12)
    assert whole.compute().clips.tolist() == [1, 1, 1, 0, 0]


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"evaluate.lpips=.*weights of another network"):
        load_lpips("alex", str(tmp_path / "other.pth"), "evaluate.lpips")
    with pytest.raises(ConfigError, match="'squeeze': expected one of alex, vgg"):
        load_lpips("squeeze", "download", "evaluate.lpips")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"evaluate.lpips=nowhere.pth: no such file.*alexnet-"):
        load_lpips("alex", "nowhere.pth", "evaluate.lpips")


def test_network_stays_in_eval_mode_inside_a_training_module() -> None:
    network = LPIPSNetwork(torch.nn.Dropout(), "dropout")
    HorizonLPIPS(network, horizon=1).train()
    assert not network.network.training


@needs_real_data
def test_real_weights_order_real_frames_as_eyes_do() -> None:
    network = load_lpips("alex", str(ALEXNET), "weights", str(LPIPS_HEADS), "heads")
    assert "alex (sha256: backbone " in network.description
    film = frames("highway_ca", 0, 13)
    truth = film[:1]
    dice = torch.Generator().manual_seed(0)
    noisy = (truth + 25 * torch.randn(truth.shape, generator=dice)).clamp(0, 255).to(torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(truth.float(), 9, 1, 4).to(torch.uint8)
    pairs = {"next": film[1:2], "later": film[12:], "blurred": blurred, "noisy": noisy}
    found = {name: perceptual_distance(x, truth, network).item() for name, x in pairs.items()}
    assert found["next"] < 0.5 * found["later"] < 0.5 * found["blurred"]
    assert found["next"] < 0.2 * found["noisy"]
    # Where it differs from PSNR: blur keeps the error small and looks wrong all the same.
    assert psnr(blurred, truth) > psnr(film[12:], truth)
