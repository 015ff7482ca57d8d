"""FVD and sliding-window FVD with small networks, against windows cut by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hvp.errors import ConfigError, DataError
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.video import FVD, SlidingFVD, frechet_video_distance
from hvp.metrics.windows import SlidingWindows

N_FEATURES = 6


def network() -> FeatureNetwork:
    """A small random 3D convolution; sees motion as well as colour."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv3d(3, N_FEATURES, (2, 3, 3), stride=(1, 2, 2)), nn.Tanh(), nn.AdaptiveAvgPool3d(1)
    ).double()  # so that the split into batches shows only in the last digits
    return FeatureNetwork(
        lambda x: layers(x.transpose(1, 2).double() / 64 - 2).flatten(1), N_FEATURES, "small"
    )


def videos(seed: int, count: int, length: int, low: int = 0) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    shape = (count, length, 3, 6, 6)
    return torch.randint(low, 256, shape, generator=dice, dtype=torch.uint8)


def cut(clips: list[Tensor], window: int, stride: int) -> Tensor:
    """All windows of all videos, by plain loops."""
    found = []
    for clip in clips:
        for start in range(0, clip.shape[1] - window + 1, stride):
            found += list(clip[:, start : start + window])
    return torch.stack(found)


@pytest.mark.parametrize(("window", "stride"), [(4, 1), (4, 4), (3, 2), (2, 5), (1, 1)])
@pytest.mark.parametrize("pieces", [[17], [1] * 17, [2, 9, 6], [16, 1], [5, 0, 12]])
def test_pieces_give_the_windows_of_the_whole(window: int, stride: int, pieces: list[int]) -> None:
    video = torch.arange(34).view(2, 17)
    expected = video.unfold(1, window, stride)
    buffer = SlidingWindows(window, stride)
    found = []
    for piece in video.split(pieces, dim=1):
        before, windows = buffer.push(piece)
        assert before == sum(part.shape[1] for part in found)
        assert windows.shape[2] == window
        assert buffer.frames_kept <= window - 1
        found.append(windows)
    assert torch.equal(torch.cat(found, dim=1), expected)


def test_rest_of_a_long_piece_does_not_keep_it_in_memory() -> None:
    buffer = SlidingWindows(window=4, stride=1)
    buffer.push(torch.zeros(1, 1000))
    assert buffer._kept is not None
    assert buffer._kept.untyped_storage().nbytes() == 3 * 4


def test_fvd_of_streamed_videos_is_that_of_all_their_windows() -> None:
    real = [videos(0, 2, 20), videos(1, 1, 11), videos(2, 3, 3)]  # the last has no window
    generated = [videos(3, 3, 15, low=40), videos(4, 3, 9, low=40)]
    metric = FVD(network(), window=4, stride=3)
    for clip, fake in zip(real, [*generated, None], strict=True):
        for start in range(0, 20, 5):  # truth and samples come in turns
            metric.update(clip[:, start : start + 5], real=True, last=start == 15)
            if fake is not None:
                metric.update(fake[:, start : start + 5], real=False, last=start == 15)
    expected = frechet_video_distance(cut(real, 4, 3), cut(generated, 4, 3), network())
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=0)
    assert expected > 0
    assert metric.real_count == 2 * 6 + 3


def test_published_protocol_takes_a_video_of_16_frames_as_one_window() -> None:
    metric = FVD(network())
    metric.update(videos(0, 5, 16), real=True)
    metric.update(videos(1, 4, 16), real=False)
    assert (int(metric.real_count), metric.counts.tolist()) == (5, [4])


def test_motion_counts_not_only_colour() -> None:
    real = videos(0, 120, 4)
    frozen = real[60:, :1].expand(-1, 4, -1, -1, -1)  # frames of the same distribution
    same = frechet_video_distance(real[:60], real[60:], network())
    assert frechet_video_distance(real[:60], frozen, network()) > 5 * same


def test_sliding_curve_equals_fvd_of_each_position() -> None:
    # The ground truth ends after 7 frames, the roll-out goes on to 14.
    real = [videos(0, 1, 7), videos(1, 1, 6), videos(2, 1, 7)]
    samples = [videos(3, 3, 14, low=20), videos(4, 3, 14, low=60)]
    metric = SlidingFVD(network(), horizon=14, window=4, stride=2)
    for clip in real:
        metric.update(clip, real=True)
    for clip in samples:
        for piece in clip.split(5, dim=1):
            metric.update(piece, real=False, last=False)
        metric.update(clip[:, :0], real=False)
    curve = metric.compute()
    reference = cut(real, 4, 2)
    for point, start in enumerate(range(0, 11, 2)):
        here = torch.cat([clip[:, start : start + 4] for clip in samples])
        expected = frechet_video_distance(reference, here, network()).item()
        assert curve.values[point] == pytest.approx(expected, rel=1e-9)
    assert curve.first.tolist() == [0, 2, 4, 6, 8, 10]
    assert curve.last.tolist() == [3, 5, 7, 9, 11, 13]
    assert curve.windows.tolist() == [6] * 6
    assert curve.real_windows == 6


def test_points_pool_neighbouring_positions() -> None:
    real, fake = videos(0, 3, 12), videos(1, 2, 12, low=30)
    metric = SlidingFVD(network(), horizon=12, window=2, stride=1, points=4)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    curve = metric.compute()  # 11 positions: 3, 3, 3, 2
    assert curve.first.tolist() == [0, 3, 6, 9]
    assert curve.last.tolist() == [3, 6, 9, 11]
    assert curve.windows.tolist() == [6, 6, 6, 4]
    expected = frechet_video_distance(cut([real], 2, 1), cut([fake[:, 3:7]], 2, 1), network())
    assert curve.values[1] == pytest.approx(expected.item(), rel=1e-9)


def test_memory_does_not_grow_with_the_horizon() -> None:
    def numbers(metric: SlidingFVD) -> int:
        return sum(getattr(metric, name).numel() for name in metric._defaults)

    long = SlidingFVD(network(), horizon=10_000, window=4, stride=4)
    longer = SlidingFVD(network(), horizon=1_000_000, window=4, stride=4)
    assert numbers(long) == numbers(longer)
    long.update(videos(0, 2, 8), real=True)
    for seed in range(39):
        long.update(videos(seed, 1, 254), real=False, last=False)
        assert long._streams[False].frames_kept <= 3
    long.update(videos(39, 1, 94), real=False, last=False)
    assert long.counts.sum() == 2500
    with pytest.raises(DataError, match="longer than the horizon of 10000 frames"):
        long.update(videos(40, 1, 4), real=False)


def test_a_point_without_two_windows_is_nan() -> None:
    metric = SlidingFVD(network(), horizon=8, window=4, stride=4)
    metric.update(videos(0, 2, 8), real=True)
    metric.update(videos(1, 2, 4), real=False)
    assert np.isnan(metric.compute().values).tolist() == [False, True]


def test_reset_forgets_windows_and_open_videos() -> None:
    metric = FVD(network(), window=4, stride=4)
    metric.update(videos(0, 2, 8), real=True)
    metric.update(videos(0, 2, 6), real=False, last=False)
    metric.reset()
    metric.update(videos(2, 1, 10), real=False)  # another N: would not continue the open videos
    assert metric.counts.tolist() == [2]
    with pytest.raises(DataError, match="0 items in a set"):
        metric.compute()


def test_wrong_videos_are_refused() -> None:
    metric = FVD(network())
    with pytest.raises(DataError, match=r"torch.float32 \(1, 16, 3, 6, 6\), expected uint8"):
        metric.update(videos(0, 1, 16).float(), real=True)
    with pytest.raises(DataError, match=r"expected uint8 \(N, T, 3, H, W\)"):
        metric.update(videos(0, 1, 16).transpose(1, 2), real=True)
    metric.update(videos(0, 2, 4), real=True, last=False)
    with pytest.raises(DataError, match="end them with last=True first"):
        metric.update(videos(0, 3, 4), real=True)


def test_horizon_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="horizon of 10 frames is shorter than a window of 16"):
        SlidingFVD(network(), horizon=10)
    with pytest.raises(ConfigError, match="stride=0"):
        FVD(network(), stride=0)
