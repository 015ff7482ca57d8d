"""vid2vid losses: GAN, feature matching, perceptual, flow."""

from pathlib import Path

import pytest
import torch
from torchvision.models import vgg19

from hvp.errors import ConfigError
from hvp.image.vid2vid.discriminators import MultiscaleDiscriminator
from hvp.image.vid2vid.losses import (
    Objective,
    VGG19Perceptual,
    discriminator_loss,
    feature_matching,
    gan_loss,
    generator_loss,
    masked_l1,
)
from hvp.image.vid2vid.module import Vid2Vid
from tests.image.small import small_module

LAYER_WEIGHTS = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0]


def test_masked_pixels_count_as_equal() -> None:
    image, target = torch.zeros(1, 2, 1, 2), torch.tensor([[[[1.0, 5.0]], [[1.0, 5.0]]]])
    mask = torch.tensor([[[[1.0, 0.0]]]])
    assert masked_l1(image, target, mask).item() == 0.5  # two ones over four entries


def test_least_squares_gan_loss_sums_over_scales() -> None:
    maps = [[torch.zeros(1, 1), torch.full((1, 2), 0.5)], [torch.zeros(1, 1), torch.zeros(1, 2)]]
    assert gan_loss(maps, real=True).item() == 1.25
    assert gan_loss(maps, real=False).item() == 0.25


def test_feature_matching_leaves_out_the_scores_and_the_real_gradient() -> None:
    real = [[torch.zeros(1, requires_grad=True), torch.zeros(1), torch.zeros(1)]]
    fake = [[torch.ones(1, requires_grad=True), torch.full((1,), 2.0), torch.full((1,), 100.0)]]
    loss = feature_matching(fake, real)
    assert loss.item() == 4 / 2 * (1 + 2)
    loss.backward()
    assert real[0][0].grad is None


def test_discriminator_halves_the_image_and_doubles_the_width() -> None:
    discriminator = MultiscaleDiscriminator(3, ndf=40, n_layers=2, num_D=2, norm="batch")
    fine, coarse = discriminator(torch.rand(1, 3, 32, 32))
    assert [m.shape[1] for m in fine] == [40, 80, 160, 1]
    assert [m.shape[1] for m in coarse] == [64, 128, 256, 1]  # capped at 64
    assert fine[0].shape[-1] == 17
    assert coarse[0].shape[-1] == 9


def test_each_side_trains_its_own_parameters_only() -> None:
    module: Vid2Vid = small_module()
    objective: Objective = module.objective
    parameter = torch.nn.Parameter(torch.rand(2, 3, 3, 16, 16))
    terms = objective.temporal_terms(
        0, torch.rand(2, 3, 3, 16, 16), parameter.tanh(), torch.zeros(2, 2, 2, 16, 16)
    )
    generator_loss(terms).backward(retain_graph=True)
    assert parameter.grad is not None
    assert all(p.grad is None for p in objective.parameters())
    before = parameter.grad.clone()
    discriminator_loss(terms).backward()
    assert torch.equal(parameter.grad, before)
    assert objective.temporal_discriminators is not None
    assert all(p.grad is not None for p in objective.temporal_discriminators.scales[0].parameters())


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    with torch.device("meta"):
        network = vgg19()
    state = {
        name: torch.randn(tensor.shape) * 0.05
        for name, tensor in network.state_dict().items()
        if name.startswith("features.")
    }
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_perceptual_loss_from_a_weights_file(vgg_file: Path) -> None:
    perceptual = VGG19Perceptual(str(vgg_file), LAYER_WEIGHTS)
    real = torch.rand(1, 3, 32, 32)
    fake = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert perceptual(real, real).item() == 0
    loss = perceptual(fake, real)

    state = torch.load(vgg_file, weights_only=True)
    expected, x, y, relus = 0.0, fake.detach(), real, 0
    with torch.device("meta"):
        layers = list(vgg19().features[:30])
    for i, layer in enumerate(layers):
        if isinstance(layer, torch.nn.Conv2d):
            weight, bias = state[f"features.{i}.weight"], state[f"features.{i}.bias"]
            x, y = (torch.conv2d(v, weight, bias, padding=1).relu() for v in (x, y))
            if i in (0, 5, 10, 19, 28):  # the first convolution of each block
                expected += LAYER_WEIGHTS[relus] * (x - y).abs().mean().item()
                relus += 1
        elif isinstance(layer, torch.nn.MaxPool2d):
            x, y = layer(x), layer(y)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert fake.grad is not None


def test_perceptual_network_stays_out_of_checkpoints(vgg_file: Path) -> None:
    module = small_module(perceptual=lambda: VGG19Perceptual(str(vgg_file), LAYER_WEIGHTS))
    module.prepare_training()
    assert module.objective.perceptual is not None
    assert not [name for name in module.state_dict() if "perceptual" in name]


def test_missing_perceptual_weights_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"perceptual\.weights=.*no such file.*vgg19"):
        VGG19Perceptual(str(tmp_path / "vgg19.pth"), LAYER_WEIGHTS)


def test_other_files_as_perceptual_weights_are_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "vgg19.pth"
    path.write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="not a PyTorch weights file"):
        VGG19Perceptual(str(path), LAYER_WEIGHTS)
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match="weights of another network"):
        VGG19Perceptual(str(path), LAYER_WEIGHTS)
