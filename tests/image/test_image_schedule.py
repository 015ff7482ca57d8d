"""Schedules of learning rate and clip length."""

import pytest

from hvp.image.vid2vid.schedule import SequenceSchedule, linear_decay


def test_learning_rate_is_constant_then_linear_to_zero() -> None:
    factor = linear_decay(n_epochs=3, n_epochs_decay=4)
    expected = [1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
    assert [factor(epoch) for epoch in range(9)] == expected


def schedule(**changes: int) -> SequenceSchedule:
    settings = {
        "n_given": 5,
        "n_frames_total": 10,
        "n_frames_max": 128,
        "n_frames_load": 10,
        "n_epochs_step": 40,
    }
    return SequenceSchedule(**{**settings, **changes})


def test_clips_double_every_few_epochs_up_to_the_limit() -> None:
    kitti = schedule()
    lengths = [kitti.n_frames(epoch) for epoch in (0, 39, 40, 80, 120, 160, 400, 10**9)]
    # 128 - 5 given frames leave 123; only whole chunks of 10 are trained on.
    assert lengths == [10, 10, 20, 40, 80, 120, 120, 120]
    assert kitti.clip_length(0) == 15


@pytest.mark.parametrize(("longest", "expected"), [(40, 35), (16, 11), (6, 1), (3, 1)])
def test_clips_are_no_longer_than_the_data(longest: int, expected: int) -> None:
    assert schedule(n_frames_load=1).n_frames(400, longest_clip=longest) == expected


def test_a_clip_shorter_than_a_chunk_is_one_chunk() -> None:
    assert schedule(n_frames_total=4, n_frames_load=10).n_frames(0) == 4
    assert schedule(n_frames_load=3).n_frames(0) == 9
