"""I3D: SAME padding, parameter names, and both weights formats."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import S3D_Weights

from hvp.errors import ConfigError
from hvp.metrics.i3d import InceptionI3d, _pad_same
from hvp.metrics.i3d_weights import load_i3d
from tests.helpers.real_driving import I3D, frames, needs_real_data

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.s:FutureWarning")


class Published(nn.Module):
    """TorchScript program with the call of the published `i3d_torchscript.pt`, around our I3D."""

    def __init__(self, i3d: nn.Module) -> None:
        super().__init__()
        self.i3d = i3d

    def forward(
        self,
        x: Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> Tensor:
        if rescale:
            x = 2.0 * x / 255.0 - 1.0
        if resize:
            size = [x.shape[2], 224, 224]
            x = F.interpolate(x, size=size, mode="trilinear", align_corners=False)
        logits = self.i3d(x)
        return logits if return_features else logits.softmax(dim=1)


def random_i3d() -> InceptionI3d:
    torch.manual_seed(0)
    i3d = InceptionI3d().eval()
    for module in i3d.modules():
        if isinstance(module, nn.BatchNorm3d):  # as after training, not the neutral first values
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.05, 0.2)
    return i3d


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 1), (3, 2), (2, 2), (1, 2), (1, 1)])
def test_padding_is_tensorflow_s_same(size: int, kernel: int, stride: int) -> None:
    x = torch.zeros(1, 1, 1, 1, size)
    padded = _pad_same(x + 1, [1, 1, kernel], [1, 1, stride])[0, 0, 0, 0]
    before, after = int(padded.argmax()), int(padded.flip(0).argmax())
    assert len(padded) == before + size + after
    assert 0 <= after - before <= 1  # as much on both sides, the odd one behind
    # TensorFlow promises ceil(size / stride) outputs, and no more zeros than that needs.
    assert (len(padded) - kernel) // stride + 1 == math.ceil(size / stride)
    if before + after:
        assert (len(padded) - kernel) % stride == 0


def test_network_has_the_size_of_the_published_one() -> None:
    with torch.device("meta"):
        network = InceptionI3d()
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264


@needs_real_data
def test_names_and_shapes_are_those_of_the_published_weights() -> None:
    state = torch.load(I3D, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        ours = InceptionI3d().state_dict()
    assert {name: value.shape for name, value in ours.items()} == {
        name: value.shape for name, value in state.items()
    }


def test_torchscript_and_plain_weights_give_the_same_features(tmp_path: Path) -> None:
    i3d = random_i3d()
    torch.save(i3d.state_dict(), tmp_path / "plain.pth")
    torch.jit.script(Published(i3d)).save(tmp_path / "program.pt")
    plain = load_i3d(str(tmp_path / "plain.pth"), "weights")
    scripted = load_i3d(f"torchscript:{tmp_path / 'program.pt'}", "weights")
    dice = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (1, 9, 3, 20, 40), generator=dice, dtype=torch.uint8)
    features = plain(video)
    assert features.shape == (1, 400)
    assert features.std() > 1e-3
    with torch.jit.optimized_execution(False):  # a first call would spend seconds on optimising
        torch.testing.assert_close(scripted(video), features, rtol=1e-4, atol=1e-6)
    assert plain.description != scripted.description  # each names its own file's digest


def test_programs_and_state_dicts_are_not_taken_for_each_other(tmp_path: Path) -> None:
    program, state = tmp_path / "program.pt", tmp_path / "plain.pth"
    torch.jit.script(nn.Linear(2, 2)).save(program)
    torch.save(nn.Linear(2, 2).state_dict(), state)
    with pytest.raises(ConfigError, match=rf"runs code.*write evaluate.i3d=torchscript:{program}"):
        load_i3d(str(program), "evaluate.i3d")
    with pytest.raises(ConfigError, match=f"is no TorchScript file.*evaluate.i3d={state}"):
        load_i3d(f"torchscript:{state}", "evaluate.i3d")
    with pytest.raises(ConfigError, match="lacks the arguments rescale, resize, return_features"):
        load_i3d(f"torchscript:{program}", "evaluate.i3d")
    with pytest.raises(ConfigError, match=r"weights of another network.*InceptionI3d"):
        load_i3d(str(state), "evaluate.i3d")


@pytest.mark.parametrize("prefix", ["", "torchscript:"])
def test_missing_file_says_how_to_get_it(prefix: str) -> None:
    with pytest.raises(
        ConfigError, match=r"no such file.*curl -L -o i3d_torchscript.pt.*sha256sum"
    ):
        load_i3d(f"{prefix}nowhere.pt", "evaluate.i3d")


@needs_real_data
def test_real_dash_cam_video_is_recognised_as_driving_a_car() -> None:
    classes = S3D_Weights.KINETICS400_V1.meta["categories"]  # Kinetics-400 in its usual order
    network = load_i3d(str(I3D), "weights")
    probabilities = network(frames("highway_ca", 0, 16).unsqueeze(0)).softmax(dim=1)[0]
    assert classes[int(probabilities.argmax())] == "driving car"
    assert probabilities.max() > 0.5
