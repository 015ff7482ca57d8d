import pytest

from hvp.clips import ClipId
from hvp.data.readers.base import Recording, consecutive_runs
from hvp.data.rules import ClipList, ClipRules
from hvp.errors import ConfigError, DataError


def rules(**changes):
    values = {
        "n_past": 5, "n_future": 15, "n_eval": 500, "step": 2, "eval_offset": 0, "eval_stride": 5,
        "min_eval_clips": 120,
    }  # fmt: skip
    return ClipRules(**{**values, **changes})


def naive(recordings, split, length, step, stride=1, offset=0):
    return [
        ClipId(recording.name, first, step)
        for recording in recordings
        if recording.split == split
        for first in range(offset, recording.n_frames, stride)
        if first + (length - 1) * step < recording.n_frames
    ]


SIZES = {"train": (39, 40, 3, 77, 38, 120), "val": (60, 10), "test": (320, 97, 430, 6, 1)}
RECORDINGS = [
    Recording(f"{split}-{i}", split, n)
    for split, sizes in SIZES.items()
    for i, n in enumerate(sizes)
]


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize("offset", [0, 1, 7])
@pytest.mark.parametrize("length", [1, 2, 20, 200])
def test_clip_list_equals_the_naive_loop(step, stride, offset, length):
    clips = ClipList(RECORDINGS, length, step, stride, offset)
    expected = [
        clip for split in SIZES for clip in naive(RECORDINGS, split, length, step, stride, offset)
    ]
    assert list(clips) == expected
    assert len(clips) == len(expected)


def test_train_clips_are_every_start_of_training_recordings_only():
    assert list(rules().train_clips(RECORDINGS)) == naive(RECORDINGS, "train", 20, 2)
    assert list(rules().train_clips(RECORDINGS, 30)) == naive(RECORDINGS, "train", 30, 2)


def test_val_clips_are_strided_and_fall_back_to_the_test_split():
    clips = rules(val_stride=4).val_clips(RECORDINGS)
    assert list(clips) == naive(RECORDINGS, "val", 20, 2, stride=4)
    without = [r for r in RECORDINGS if r.split != "val"]
    assert list(rules().val_clips(without)) == naive(without, "test", 20, 2)


@pytest.mark.parametrize("wanted", [1, 40, 120, 145])
def test_test_length_is_lowered_by_one_until_enough_clips_exist(wanted):
    length = 505
    while len(naive(RECORDINGS, "test", length, 2, 5)) < wanted:
        length -= 1
    clips = rules(min_eval_clips=wanted).test_clips(RECORDINGS)
    assert clips.length == length
    assert 6 < length < 505
    assert list(clips) == naive(RECORDINGS, "test", length, 2, 5)


def test_test_length_is_kept_when_enough_clips_exist():
    assert rules(min_eval_clips=3, n_eval=40).test_clips(RECORDINGS).length == 45


def test_test_length_never_falls_below_one_predicted_frame():
    few = [Recording("a", "test", 30)]
    clips = rules().test_clips(few)
    assert clips.length == 6
    assert [clip.first for clip in clips] == [0, 5, 10, 15]


def test_cityscapes_rule_gives_ten_frames_from_frame_one_of_every_sequence():
    sequences = [Recording(f"c_{i}", "test", 30) for i in range(7)]
    clips = rules(
        n_past=4, n_eval=100, step=3, eval_offset=1, eval_stride=30, min_eval_clips=1
    ).test_clips(sequences)
    assert clips.length == 10
    assert [clip.first for clip in clips] == [1] * 7


@pytest.mark.parametrize("split", ["train_clips", "val_clips", "test_clips"])
def test_no_clip_is_an_error_that_says_what_was_needed(split):
    short = [Recording(s, s, 10) for s in ("train", "val", "test")]
    with pytest.raises(DataError, match=r"needs \d+ recorded frames.*has 10"):
        getattr(rules(n_past=6), split)(short)


def test_out_of_range_rules_are_config_errors():
    with pytest.raises(ConfigError, match=r"dataset\.rules\.step=0"):
        rules(step=0)


@pytest.mark.parametrize("wanted", [1, 3, 40, 10**6])
def test_longest_training_clip_still_gives_the_wanted_number_of_clips(wanted):
    length = 200
    while length > 1 and len(naive(RECORDINGS, "train", length, 2)) < wanted:
        length -= 1
    assert rules().longest(RECORDINGS, wanted) == length
    assert wanted != 1 or length == 60


def test_spread_takes_clips_evenly_from_first_to_last():
    clips = ClipList([Recording("a", "test", 101)], 1, 1)
    assert [clip.first for clip in clips.subsample(5)] == [0, 25, 50, 75, 100]
    assert clips.subsample(1) == [clips[0]]
    assert clips.subsample(1000) == list(clips)


def test_millions_of_clips_cost_no_memory_and_index_from_both_ends():
    clips = ClipList([Recording(str(i), "train", 10**6) for i in range(10)], 20, 2)
    assert len(clips) == 10 * (10**6 - 38)
    assert clips[-1] == ClipId("9", 10**6 - 39, 2)
    with pytest.raises(IndexError):
        clips[len(clips)]


def test_gaps_split_frame_numbers_into_runs():
    numbers = [0, 1, 2, 5, 6, 9]
    assert [numbers[piece] for piece in consecutive_runs(numbers)] == [[0, 1, 2], [5, 6], [9]]
    assert consecutive_runs([7]) == [slice(0, 1)]
