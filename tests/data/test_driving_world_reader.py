import numpy as np
import pytest

from hvp.clips import ClipId
from hvp.data.readers.worlds import AvenueReader, DrivingWorldReader
from hvp.data.store import prepare
from hvp.worlds.driving import settings

SIZE = (32, 48)


def reader(kind=DrivingWorldReader, **changes):
    options = {
        "n_train": 2, "n_val": 1, "n_test": 1, "frames_per_recording": 5, "frame_rate": 10.0,
    }  # fmt: skip
    return kind(**{**options, **changes})


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


def share_that_differs(labels_THW, lag):
    return (labels_THW[lag:] != labels_THW[:-lag]).mean()


def test_the_avenue_repeats_itself_and_other_streets_do_not(tmp_path):
    # 12.5 m/s, 5 frames/s, lamps and signs every 25 m: ten frames.
    drives = {
        kind: prepare(
            reader(kind, frames_per_recording=60, frame_rate=5.0), tmp_path, (64, 64), ["labels"]
        )
        for kind in (AvenueReader, DrivingWorldReader)
    }
    for number in range(4):
        avenue, street = (
            data.read("labels", ClipId(data.recordings[number].name, 0, 1), 60)
            for data in drives.values()
        )
        assert share_that_differs(avenue, 10) < 0.5 * share_that_differs(avenue, 7)
        assert share_that_differs(street, 10) > 0.8 * share_that_differs(street, 7)


def test_the_avenue_is_another_world():
    assert reader(AvenueReader).settings() != reader().settings()
    assert reader(AvenueReader).settings()["world_digest"] != reader().settings()["world_digest"]
