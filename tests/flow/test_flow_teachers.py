"""Optical flow teachers on an image with known motion."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import raft_small

from hvp.errors import ConfigError, DataError
from hvp.flow.teachers import DISFlow, GroundTruthFlow, RAFTFlow
from hvp.flow.warp import warp
from hvp.pretrained import load_pretrained

SIZE, MARGIN = 64, 20
MOTION = torch.tensor([2.0, -1.0])  # pixels per frame, x and y, of the image's content


def moving_frames(n_frames: int) -> Tensor:
    """A smooth random image seen through a window: content moves by MOTION per frame."""
    dice = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 26, 26, generator=dice) * 2 - 1
    image = F.interpolate(coarse, SIZE + 2 * MARGIN, mode="bicubic").clamp(-1, 1)[0]
    dx, dy = (int(value) for value in MOTION)
    windows = [
        image[:, MARGIN - dy * t :, MARGIN - dx * t :][:, :SIZE, :SIZE] for t in range(n_frames)
    ]
    return torch.stack(windows).expand(2, -1, -1, -1, -1)


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
@pytest.mark.parametrize("gap", [1, 3])
def test_dis_recovers_a_known_shift(preset: str, gap: int) -> None:
    flow, trusted = DISFlow(preset)(moving_frames(5), None, targets=[3, 4], gap=gap)
    assert flow.shape == (2, 2, 2, SIZE, SIZE)
    assert trusted.shape == (2, 2, 1, SIZE, SIZE)
    inner = flow[..., 12:-12, 12:-12]
    error = (inner - (-gap * MOTION).view(2, 1, 1)).abs().mean()
    assert error < 0.1
    assert trusted[..., 12:-12, 12:-12].mean() > 0.99


def test_unknown_preset_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="preset=slow"):
        DISFlow("slow")


def test_ground_truth_composes_flows_along_the_motion() -> None:
    torch.manual_seed(0)
    exact = torch.randn(1, 4, 2, 8, 8)
    frames = torch.rand(1, 4, 3, 8, 8)
    teacher = GroundTruthFlow()
    one, _ = teacher(frames, exact, targets=[1, 3], gap=1)
    assert torch.equal(one, exact[:, [1, 3]])
    two, _ = teacher(frames, exact, targets=[3], gap=2)
    torch.testing.assert_close(two[:, 0], exact[:, 3] + warp(exact[:, 2], exact[:, 3]))
    three, _ = teacher(frames, exact, targets=[3], gap=3)
    torch.testing.assert_close(three[:, 0], two[:, 0] + warp(exact[:, 1], two[:, 0]))


def test_ground_truth_of_a_translation_is_trusted_over_a_gap() -> None:
    exact = (-MOTION).view(2, 1, 1).expand(2, 5, 2, SIZE, SIZE)
    flow, trusted = GroundTruthFlow()(moving_frames(5), exact, targets=[4], gap=3)
    torch.testing.assert_close(flow, (-3 * MOTION).view(2, 1, 1).expand_as(flow))
    assert trusted[..., 12:-12, 12:-12].mean() == 1


def test_clips_without_flow_are_a_data_error() -> None:
    with pytest.raises(DataError, match="carry no optical flow"):
        GroundTruthFlow()(moving_frames(2), None, targets=[1], gap=1)


@pytest.fixture(scope="module")
def raft_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "raft_small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    return path


@torch.no_grad()
def test_raft_enlarges_small_frames_and_scales_the_flow_back(raft_file: Path) -> None:
    teacher = RAFTFlow(str(raft_file), size="small", n_updates=2)
    frames = moving_frames(2)[:1]
    flow, trusted = teacher(frames, None, targets=[1], gap=1)
    assert flow.shape == (1, 1, 2, SIZE, SIZE)
    assert trusted.shape == (1, 1, 1, SIZE, SIZE)

    network = raft_small(weights=None).eval()
    network.load_state_dict(torch.load(raft_file, weights_only=True))
    current, previous = (F.interpolate(frames[:, t], 128, mode="bilinear") for t in (1, 0))
    large = network(current, previous, num_flow_updates=2)[-1]
    expected = F.interpolate(large, SIZE, mode="bilinear") / 2
    torch.testing.assert_close(flow[:, 0], expected)


def test_raft_takes_sides_that_are_no_multiple_of_eight(raft_file: Path) -> None:
    teacher = RAFTFlow(str(raft_file), size="small", n_updates=1)
    flow, _ = teacher(torch.zeros(1, 2, 3, 130, 140), None, targets=[1], gap=1)
    assert flow.shape == (1, 1, 2, 130, 140)


def test_missing_raft_weights_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"flow\.weights=.*no such file.*raft_small"):
        RAFTFlow(str(tmp_path / "raft.pth"), size="small")


def test_weights_of_the_other_raft_are_a_clear_error(raft_file: Path) -> None:
    with pytest.raises(ConfigError, match="weights of another network"):
        RAFTFlow(str(raft_file), size="large")


def test_unknown_raft_size_is_a_config_error(raft_file: Path) -> None:
    with pytest.raises(ConfigError, match="size=tiny"):
        RAFTFlow(str(raft_file), size="tiny")


def test_impossible_download_says_where_to_get_the_file() -> None:
    class Unreachable:
        url = "https://example.org/raft.pth"

        def get_state_dict(self, **options: object) -> dict[str, Tensor]:
            raise OSError("no route to host")

    with pytest.raises(ConfigError, match=r"flow\.weights=download: could not fetch .*raft\.pth"):
        load_pretrained("download", Unreachable(), "flow.weights")
