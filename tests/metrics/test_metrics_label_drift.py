"""Label drift: against direct counting, in chunks, and its errors."""

import numpy as np
import pytest
import torch

from hvp.errors import DataError
from hvp.metrics.label_drift import LabelDrift


def maps(seed: int, n_videos: int, length: int, n_classes: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, (n_videos, length, 6, 7), dtype=np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    return labels


def statistics(videos: np.ndarray, first: int, last: int) -> tuple[np.ndarray, float, float]:
    """Class shares, boundary density and share of moving pixels of frames first..last."""
    part = videos[:, first : last + 1]
    histogram = np.array([(part == label).sum() for label in range(3)])

    def share(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        different = both = 0
        for one, other in pairs:
            known = (one != 255) & (other != 255)
            both += known.sum()
            different += (known & (one != other)).sum()
        return different / both

    space = [(part[..., 1:], part[..., :-1]), (part[..., 1:, :], part[..., :-1, :])]
    start = max(first, 1)
    time = [(videos[:, start : last + 1], videos[:, start - 1 : last])]
    return histogram / histogram.sum(), share(space), share(time)


def test_drift_equals_direct_counting_in_any_pieces() -> None:
    real, predicted = maps(0, 1, 9), maps(1, 2, 10, n_classes=2)
    metric = LabelDrift(n_classes=3, horizon=10, window=4)
    for start in range(0, 9, 2):
        piece = torch.from_numpy(real[:, start : start + 2])
        metric.update(piece, real=True, last=start == 8)
    for start in range(0, 10, 5):
        piece = torch.from_numpy(predicted[:, start : start + 5])
        metric.update(piece, real=False, last=False)
    metric.update(torch.from_numpy(predicted[:, :0]), real=False, last=True)
    curves = metric.compute()
    assert list(zip(curves.first, curves.last, strict=True)) == [(0, 3), (4, 7), (8, 9)]
    assert curves.frames.tolist() == [8, 8, 4]
    assert curves.real_frames == 9
    real_shares, real_boundary, real_motion = statistics(real, 0, 8)
    for point, (first, last) in enumerate(zip(curves.first, curves.last, strict=True)):
        shares, boundary, motion = statistics(predicted, first, last)
        expected = np.abs(shares - real_shares).sum() / 2
        assert curves.class_drift[point] == pytest.approx(expected, rel=1e-12)
        assert curves.boundary_drift[point] == pytest.approx(abs(boundary / real_boundary - 1))
        assert curves.motion_drift[point] == pytest.approx(abs(motion / real_motion - 1))


def test_real_videos_do_not_drift_and_a_standing_one_only_in_motion() -> None:
    real = torch.from_numpy(maps(0, 1, 8))
    metric = LabelDrift(n_classes=3, horizon=8, window=8)
    metric.update(real, real=True)
    metric.update(real, real=False)
    assert [values[0] for values in metric.compute()[:3]] == [0.0, 0.0, 0.0]
    standing = LabelDrift(n_classes=3, horizon=8, window=8)
    standing.copy_real(metric)
    standing.update(real[:, :1].expand(1, 8, 6, 7), real=False)
    curves = standing.compute()
    assert curves.motion_drift[0] == 1.0
    assert curves.class_drift[0] < 0.2


def test_memory_does_not_grow_with_the_horizon() -> None:
    metric = LabelDrift(n_classes=3, horizon=100_000, points=64)
    assert metric.counts.shape == (64, 7)
    curves = metric.compute()
    assert (curves.first[0], curves.last[-1]) == (0, 99_999)
    assert (curves.first[1:] == curves.last[:-1] + 1).all()


def test_video_beyond_the_horizon_is_refused() -> None:
    metric = LabelDrift(n_classes=3, horizon=4)
    with pytest.raises(DataError, match="longer than the horizon of 4"):
        metric.update(torch.from_numpy(maps(0, 1, 5)), real=False)
