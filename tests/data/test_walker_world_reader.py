from hvp.clips import ClipId
from hvp.data.readers.worlds import WalkerWorldReader
from hvp.data.store import prepare
from hvp.worlds.walker import settings as walker_settings


def reader(**changes):
    options = {
        "n_train": 2, "n_val": 1, "n_test": 1, "frames_per_recording": 4, "frame_rate": 12.5,
    }  # fmt: skip
    return WalkerWorldReader(**{**options, **changes})


def test_reader_gives_part_maps_and_rgb_of_one_walk(tmp_path):
    data = prepare(reader(), tmp_path, (32, 48), ["labels", "frames"])
    assert [r.name for r in data.recordings] == [
        "walker-train-0000", "walker-train-0001", "walker-val-0000", "walker-test-0000",
    ]  # fmt: skip
    clips = [ClipId(r.name, 0, 1) for r in data.recordings]
    assert data.read("frames", clips[0], 4).shape == (4, 3, 32, 48)
    assert len({data.read("labels", clip, 4).tobytes() for clip in clips}) == 4
    assert data.label_space.n_classes == 25


def test_settings_follow_the_version_and_the_options(monkeypatch):
    before = reader().settings()
    assert before == reader().settings()
    assert before != reader(seed=1).settings()
    assert before != reader(frame_rate=25.0).settings()
    monkeypatch.setattr(walker_settings, "WALKER_VERSION", 0)
    assert before != reader().settings()
