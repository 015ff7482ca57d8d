import numpy as np
import pytest

from hvp.data.clips import ClipId
from hvp.data.store import prepare
from hvp.data.synthetic import settings
from hvp.data.worlds import DrivingWorldReader

SIZE = (32, 48)


def reader(**changes):
    options = {
        "n_train": 2, "n_val": 1, "n_test": 1, "frames_per_recording": 5, "frame_rate": 10.0,
    }  # fmt: skip
    return DrivingWorldReader(**{**options, **changes})


def test_recordings_are_named_by_split_and_number():
    assert [(r.name, r.split, r.n_frames) for r in reader().recordings()] == [
        ("driving-train-0000", "train", 5),
        ("driving-train-0001", "train", 5),
        ("driving-val-0000", "val", 5),
        ("driving-test-0000", "test", 5),
    ]


def test_channels_are_of_one_drive_and_recordings_differ(tmp_path):
    data = prepare(reader(), tmp_path, SIZE, ["labels", "frames", "flow"])
    clips = [ClipId(r.name, 0, 1) for r in data.recordings]
    labels = [data.read("labels", clip, 5) for clip in clips]
    assert labels[0].shape == (5, *SIZE)
    assert data.read("frames", clips[0], 5).shape == (5, 3, *SIZE)
    assert data.read("flow", clips[0], 5).shape == (5, 2, *SIZE)
    assert len({array.tobytes() for array in labels}) == 4
    again = prepare(reader(), tmp_path / "again", SIZE, ["labels"])
    np.testing.assert_array_equal(again.read("labels", clips[3], 5), labels[3])


@pytest.mark.parametrize("change", [{"seed": 1}, {"frame_rate": 5.0}, {"n_test": 2}])
def test_settings_name_everything_the_frames_depend_on(change):
    assert reader().settings() == reader().settings()
    assert reader().settings() != reader(**change).settings()


def test_settings_follow_the_version_of_the_world(monkeypatch):
    before = reader().settings()
    monkeypatch.setattr(settings, "WORLD_VERSION", 0)
    assert reader().settings() != before
