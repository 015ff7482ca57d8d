import json
import multiprocessing
import os
import signal

import numpy as np
import pytest

from hvp.clips import ClipId
from hvp.data import store
from hvp.data.packed import PreparedDataset
from hvp.data.readers.base import Recording
from hvp.data.store import prepare
from hvp.errors import DataError
from tests.helpers.small_reader import NumberedReader, recordings

SIZE = (8, 6)
FORK = multiprocessing.get_context("fork")


class Interrupted(Exception):
    pass


class StopsInside(NumberedReader):
    """Fails after two frames of one recording."""

    stop_at = "train/2"

    def read(self, recording, size, channels):
        for index, arrays in enumerate(super().read(recording, size, channels)):
            if recording.name == self.stop_at and index == 2:
                raise Interrupted
            yield arrays


def test_read_gives_the_frames_of_the_clip_shorter_at_the_end(tmp_path):
    data = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels", "frames", "flow"])
    clip = ClipId("train/1", first=3, step=2)
    labels = data.read("labels", clip, 3)
    assert labels.dtype == np.uint8
    assert labels.shape == (3, *SIZE)
    assert labels[:, 0, 0].tolist() == [3, 5, 7]
    frames = data.read("frames", clip, 100)
    assert frames.shape == (5, 3, *SIZE)
    assert frames[:, 0, 0, 0].tolist() == [3, 5, 7, 9, 11]
    assert frames[0, 2, 0].tolist() == list(range(6))
    flow = data.read("flow", clip, 1)
    assert flow.dtype == np.float32
    assert flow[0, :, 0, 0].tolist() == [3.0, -3.0]


@pytest.mark.parametrize("length", [3, 20, 100])
def test_a_streamed_clip_is_the_read_one_and_ends_with_its_recording(tmp_path, length):
    data = prepare(
        NumberedReader(recordings(frames=60)), tmp_path, SIZE, ["labels", "frames", "flow"]
    )
    clip = ClipId("train/1", first=3, step=2)
    expected = min(length, 29)
    assert data.recorded_length(clip, length) == expected
    for channel, axes in (("labels", None), ("frames", (0, 2, 3, 1)), ("flow", None)):
        streamed = np.stack(list(data.stream(channel, clip, length)))
        read = data.read(channel, clip, length)
        assert len(streamed) == expected
        np.testing.assert_array_equal(streamed, read if axes is None else read.transpose(axes))


def test_a_clip_behind_the_end_of_its_recording_has_no_frames(tmp_path):
    data = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels"])
    for first in (12, 13, 400):
        assert data.recorded_length(ClipId("train/1", first, 2), 7) == 0
        assert list(data.stream("labels", ClipId("train/1", first, 2), 7)) == []


def test_streaming_reads_a_few_frames_at_a_time(tmp_path, monkeypatch):
    data = prepare(NumberedReader(recordings(frames=200)), tmp_path, SIZE, ["labels"])
    lengths = []
    read = data.read
    monkeypatch.setattr(
        data, "read", lambda c, clip, length: lengths.append(length) or read(c, clip, length)
    )
    stream = data.stream("labels", ClipId("train/0", 0, 1), 200)
    assert next(stream)[0, 0] == 0
    assert sum(lengths) <= 16
    assert len(list(stream)) == 199


def test_a_clip_of_an_unknown_recording_is_named(tmp_path):
    data = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels"])
    with pytest.raises(DataError, match="no recording 'other/0' among the 5 of dataset 'numbered'"):
        data.recorded_length(ClipId("other/0", 0, 1), 7)


def test_reading_is_memory_mapped_and_never_decodes(tmp_path):
    data = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels"])
    data.read("labels", ClipId("train/0", 0, 1), 2)
    assert all(isinstance(array.base, np.memmap) for array in data._open.values())
    assert len(data._open) == 1


def test_only_asked_channels_are_opened_and_others_can_follow(tmp_path):
    reader = NumberedReader(recordings())
    prepare(reader, tmp_path, SIZE, ["labels"])
    assert {channel for _, channel in reader.opened} == {"labels"}
    reader.opened.clear()
    prepare(reader, tmp_path, SIZE, ["labels", "frames"])
    assert {channel for _, channel in reader.opened} == {"frames"}
    reader.opened.clear()
    prepare(reader, tmp_path, SIZE, ["labels", "frames"])
    assert reader.opened == []


def test_all_channels_are_read_in_one_pass(tmp_path):
    reader = NumberedReader(recordings(train=1, val=0, test=0))
    prepare(reader, tmp_path, SIZE, ["labels", "frames", "flow"])
    assert reader.opened == [("train/0", c) for c in ("labels", "frames", "flow")]


def test_interrupted_preparation_goes_on_and_is_never_served_before(tmp_path):
    with pytest.raises(Interrupted):
        prepare(StopsInside(recordings()), tmp_path, SIZE, ["labels"])
    folder = next(tmp_path.glob("numbered-*/8x6"))
    assert not list(folder.rglob("*.tmp.npy"))
    with pytest.raises(DataError, match="was not prepared"):
        PreparedDataset.open(folder, ["labels"])

    reader = NumberedReader(recordings())
    data = prepare(reader, tmp_path, SIZE, ["labels"])
    assert [name for name, _ in reader.opened] == ["train/2", "val/0", "test/0"]
    data.verify()


class Killed(NumberedReader):
    """Its process is killed after five frames of the second recording."""

    def read(self, recording, size, channels):
        for index, arrays in enumerate(super().read(recording, size, channels)):
            if recording.name == "train/1" and index == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            yield arrays


def test_killed_preparation_goes_on(tmp_path):
    arguments = (Killed(recordings()), tmp_path, SIZE, ["labels", "frames"])
    process = FORK.Process(target=prepare, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.tmp.npy"))

    reader = NumberedReader(recordings())
    data = prepare(reader, tmp_path, SIZE, ["labels", "frames"])
    assert ("train/0", "labels") not in reader.opened
    assert ("train/1", "labels") in reader.opened
    assert not list(tmp_path.rglob("*.tmp.npy"))
    assert data.read("frames", ClipId("train/1", 0, 1), 99)[:, 0, 0, 0].tolist() == list(range(12))


def test_changed_settings_are_never_served_from_the_old_cache(tmp_path):
    old = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels"])
    for reader in (
        NumberedReader(recordings(), version=1),
        NumberedReader(recordings(frames=13)),
        NumberedReader(recordings(train=4)),
    ):
        new = prepare(reader, tmp_path, SIZE, ["labels"])
        assert reader.opened
        assert new.digest != old.digest
        assert new.folder != old.folder
    other_size = prepare(NumberedReader(recordings()), tmp_path, (4, 4), ["labels"])
    assert other_size.digest != old.digest
    again = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels"])
    assert again.digest == old.digest


def test_truncated_file_is_named_at_open_and_flipped_byte_by_verify(tmp_path):
    data = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels"])
    file = data._files["labels", "train/1"]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=file.name):
        PreparedDataset.open(data.folder, ["labels"]).verify()
    file.write_bytes(content[:-3])
    with pytest.raises(DataError, match=f"{file.name}.*701 bytes.*stage=prepare"):
        PreparedDataset.open(data.folder, ["labels"])


def _prepare_and_count(folder, barrier, opened):
    reader = NumberedReader(recordings(train=40, frames=40))
    barrier.wait()
    prepare(reader, folder, SIZE, ["labels", "frames"]).verify()
    opened.put(len(reader.opened))


def test_two_processes_preparing_at_once_do_the_work_once(tmp_path):
    barrier, opened = FORK.Barrier(2), FORK.SimpleQueue()
    arguments = (tmp_path, barrier, opened)
    processes = [FORK.Process(target=_prepare_and_count, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted([opened.get(), opened.get()]) == [0, 84]


class WrongFrames(NumberedReader):
    def __init__(self, recordings, change):
        super().__init__(recordings)
        self.change = change

    def read(self, recording, size, channels):
        return self.change(list(super().read(recording, size, channels)))


def too_large_id(frames):
    frames[4]["labels"][0, 0] = 19
    return frames


def wrong_shape(frames):
    frames[1]["labels"] = frames[1]["labels"][:-1]
    return frames


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (too_large_id, r"train/0 labels 4: label ids \[19\]"),
        (wrong_shape, r"train/0 labels 1: the reader gave uint8 \(7, 6\)"),
        (lambda frames: frames[:-1], "only 11 frames"),
        (lambda frames: [*frames, frames[0]], "more frames"),
    ],
)
def test_bad_frames_are_errors_and_leave_nothing(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        prepare(WrongFrames(recordings(), change), tmp_path, SIZE, ["labels"])
    assert not list(tmp_path.rglob("*.npy"))


def test_ignore_label_is_allowed(tmp_path):
    def ignored(frames):
        frames[0]["labels"][:] = 255
        return frames

    data = prepare(WrongFrames(recordings(), ignored), tmp_path, SIZE, ["labels"])
    assert (data.read("labels", ClipId("val/0", 0, 1), 1) == 255).all()


def test_missing_channel_and_duplicate_name_are_errors(tmp_path):
    blind = [Recording("a", "train", 3), Recording("b", "test", 3, ("labels", "frames"))]
    with pytest.raises(DataError, match="1 of 2 recordings have no frames"):
        prepare(NumberedReader(blind), tmp_path, SIZE, ["labels", "frames"])
    with pytest.raises(DataError, match="two recordings are called 'a'"):
        prepare(NumberedReader([blind[0], Recording("a", "test", 3)]), tmp_path, SIZE, ["labels"])


def test_names_that_differ_only_in_punctuation_do_not_collide(tmp_path):
    names = ["a/b", "a_b", "a%2Fb", "../a"]
    reader = NumberedReader([Recording(name, "train", 3 + i) for i, name in enumerate(names)])
    data = prepare(reader, tmp_path, SIZE, ["labels"])
    for i, name in enumerate(names):
        assert len(data.read("labels", ClipId(name, 0, 1), 99)) == 3 + i


def test_a_disk_too_small_is_an_error_before_any_work(tmp_path, monkeypatch):
    real = store.shutil.disk_usage
    monkeypatch.setattr(store.shutil, "disk_usage", lambda p: real(p)._replace(free=100))
    reader = NumberedReader(recordings())
    with pytest.raises(DataError, match=r"the disk has 0\.0 GiB free"):
        prepare(reader, tmp_path, SIZE, ["labels"])
    assert reader.opened == []


def test_manifest_describes_the_data_without_the_reader(tmp_path):
    data = prepare(NumberedReader(recordings()), tmp_path, SIZE, ["labels"])
    manifest = json.loads((data.folder / "labels" / "manifest.json").read_text())
    assert manifest["settings"] == data.settings
    assert manifest["label_space"]["classes"][13] == "car"
    assert {entry["split"] for entry in manifest["recordings"]} == {"train", "val", "test"}
    assert data.label_space == NumberedReader.label_space
    assert data.recordings == recordings()
