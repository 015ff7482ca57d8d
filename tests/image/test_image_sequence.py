"""Sequence generator: autoregression, detaching, groups of the temporal discriminators."""

import pytest
import torch
from torch import Tensor

from hvp.errors import ConfigError
from hvp.flow.warp import warp
from hvp.image.vid2vid.sequence import denormalise, normalise, one_hot, pyramid, temporal_groups
from hvp.labels import IGNORE
from tests.image.small import N_CLASSES, random_frames, random_labels, small_generator


def inputs(n_frames: int, size: int = 16) -> tuple[Tensor, Tensor]:
    labels = one_hot(random_labels(2, n_frames, size), N_CLASSES, torch.float32)
    return labels, normalise(random_frames(2, n_frames, size), torch.float32)


def test_ignore_becomes_no_class_at_all() -> None:
    labels = torch.tensor([[[[0, 3], [IGNORE, 1]]]], dtype=torch.uint8)
    hot = one_hot(labels, N_CLASSES, torch.float32)
    assert hot.shape == (1, 1, N_CLASSES, 2, 2)
    assert hot[0, 0, :, 1, 0].tolist() == [0, 0, 0, 0]
    assert hot[0, 0, :, 0, 1].tolist() == [0, 0, 0, 1]


def test_colours_survive_the_round_trip() -> None:
    colours = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(denormalise(normalise(colours, torch.float32)), colours)


def test_pyramid_averages_without_counting_the_border() -> None:
    image = torch.rand(1, 1, 1, 4, 4)
    coarse, fine = pyramid(image, 2)
    assert torch.equal(fine, image)
    corner = image[0, 0, 0, :2, :2].mean()  # pixel (-1, -1) is outside
    inner = image[0, 0, 0, 1:4, 1:4].mean()
    assert coarse[0, 0, 0, 0, 0].item() == pytest.approx(corner.item())
    assert coarse[0, 0, 0, 1, 1].item() == pytest.approx(inner.item())


@pytest.mark.parametrize("n_scales", [1, 2])
def test_video_equals_frames_generated_one_by_one(n_scales: int) -> None:
    generator = small_generator(n_scales_spatial=n_scales).eval()
    labels, frames = inputs(6)
    video = generator(labels, generator.start(frames[:, :2]), n_frames_bp=2)

    shown = pyramid(frames[:, :2], n_scales)
    for t in range(4):
        windows = pyramid(labels[:, t : t + 3], n_scales)
        output, images = generator.next_frame(windows, [s[:, -2:] for s in shown], raw_only=False)
        shown = [torch.cat([s, i[:, None]], dim=1) for s, i in zip(shown, images, strict=True)]
        torch.testing.assert_close(video.fake_BN3HW[:, t], output.image_B3HW)
    torch.testing.assert_close(video.history, [s[:, -2:] for s in shown])


def test_chunks_continue_where_the_last_one_ended() -> None:
    generator = small_generator().eval()
    labels, frames = inputs(8)
    start = generator.start(frames[:, :2])
    whole = generator(labels, start, n_frames_bp=1)
    first = generator(labels[:, :5], start, n_frames_bp=1)
    second = generator(labels[:, 3:], first.history, n_frames_bp=1)
    joined = torch.cat([first.fake_BN3HW, second.fake_BN3HW], dim=1)
    torch.testing.assert_close(joined, whole.fake_BN3HW)


def test_frame_is_the_blend_of_painted_and_warped() -> None:
    generator = small_generator(foreground_classes=[]).eval()
    labels, frames = inputs(3)
    out = generator(labels, generator.start(frames[:, :2]), n_frames_bp=1)
    raw, flow, weight = (x[:, 0] for x in (out.raw_BN3HW, out.flow_BN2HW, out.weight_BN1HW))
    blend = weight * raw + (1 - weight) * warp(frames[:, 1], flow)
    torch.testing.assert_close(out.fake_BN3HW[:, 0], blend)


def test_foreground_pixels_come_from_the_foreground_branch_alone() -> None:
    generator = small_generator().eval()
    labels, frames = inputs(3)
    out = generator(labels, generator.start(frames[:, :2]), n_frames_bp=1)
    foreground = labels[:, 2, 2].bool()[:, None].expand(-1, 3, -1, -1)
    fake, raw = out.fake_BN3HW[:, 0], out.raw_BN3HW[:, 0]
    assert torch.equal(fake[foreground], raw[foreground])
    other = small_generator().eval()
    for parameter in other.scales[0].image_trunk.parameters():
        parameter.data.mul_(3)  # the background branch must not matter
    changed = other(labels, other.start(frames[:, :2]), n_frames_bp=1).raw_BN3HW[:, 0]
    torch.testing.assert_close(changed[foreground], raw[foreground])
    assert not torch.allclose(changed[~foreground], raw[~foreground])


def test_without_flow_nothing_is_warped() -> None:
    generator = small_generator(no_flow=True)
    labels, frames = inputs(4)
    out = generator(labels, generator.start(frames[:, :2]), n_frames_bp=1)
    assert out.flow_BN2HW is None
    assert out.weight_BN1HW is None
    assert torch.equal(out.fake_BN3HW, out.raw_BN3HW)


def test_synthesising_the_first_frame_ignores_the_given_ones() -> None:
    generator = small_generator(synthesise_first=True).eval()
    labels, frames = inputs(5)
    out = generator(labels, generator.start(frames[:, :2]), n_frames_bp=1, n_raw_only=1)
    black = generator(labels, generator.start(-frames[:, :2]), n_frames_bp=1, n_raw_only=1)
    assert torch.equal(out.fake_BN3HW, black.fake_BN3HW)
    assert torch.equal(out.fake_BN3HW[:, 0], out.raw_BN3HW[:, 0])
    assert not torch.equal(out.fake_BN3HW[:, 1], out.raw_BN3HW[:, 1])


def frames_reached(n_frames_bp: int, t: int) -> list[int]:
    """Generated frames that the gradient of frame `t` flows back to, itself left out."""
    generator = small_generator(foreground_classes=[])
    labels, frames = inputs(8)
    generated: list[Tensor] = []
    next_frame = generator.next_frame

    def recorded(*args: object, **kwargs: object) -> object:
        output, images = next_frame(*args, **kwargs)  # type: ignore[arg-type]
        images[0].retain_grad()
        generated.append(images[0])
        return output, images

    generator.next_frame = recorded  # type: ignore[method-assign, assignment]
    generator(labels, generator.start(frames[:, :2]), n_frames_bp)
    generated[t].sum().backward()
    return [i for i in range(t) if generated[i].grad is not None]


def test_gradient_stops_where_previous_frames_are_detached() -> None:
    assert frames_reached(n_frames_bp=1, t=3) == []
    assert frames_reached(n_frames_bp=3, t=2) == [0, 1]
    assert frames_reached(n_frames_bp=3, t=3) == []
    # Frame 4 sees frames 2 and 3; only frame 3's own inputs were detached (as published).
    assert frames_reached(n_frames_bp=3, t=4) == [0, 1, 2, 3]
    assert frames_reached(n_frames_bp=8, t=3) == [0, 1, 2]


def published_selection(
    n_frames: int, chunk: int, n_scales: int, n_frames_D: int
) -> list[list[list[list[int]]]]:
    """Groups per chunk and scale by appending chunks to a buffer and slicing from its end."""
    longest = n_frames_D ** (n_scales - 1) * (n_frames_D - 1)
    buffer: list[int] = []
    result = []
    for first in range(0, n_frames, chunk):
        new = list(range(first, min(first + chunk, n_frames)))
        buffer = buffer[-longest:] + new
        per_scale = []
        for s in range(n_scales):
            step = n_frames_D**s
            span = step * (n_frames_D - 1)
            groups = []
            for t in range(0, min(len(buffer) - span, len(new)), n_frames_D):
                stop = len(buffer) - t
                groups.append(buffer[stop - span - 1 : stop : step])
            per_scale.append(groups)
        result.append(per_scale)
    return result


@pytest.mark.parametrize("chunk", [1, 2, 6, 10, 30])
@pytest.mark.parametrize("n_frames_D", [2, 3])
def test_temporal_groups_match_a_buffer_of_frames(chunk: int, n_frames_D: int) -> None:
    expected = published_selection(30, chunk, n_scales=3, n_frames_D=n_frames_D)
    for index, per_scale in enumerate(expected):
        stop = min((index + 1) * chunk, 30)
        for scale, groups in enumerate(per_scale):
            assert temporal_groups(index * chunk, stop, scale, n_frames_D) == groups


def test_bad_norm_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="norm=layer"):
        small_generator(norm="layer")
