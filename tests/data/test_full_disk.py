"""Full disk during preparation: a real file system that is full, no mock."""

import multiprocessing
import resource
import shutil
from contextlib import suppress

import pytest

from hvp.data.packed import PreparedDataset
from hvp.data.readers.base import Recording
from hvp.data.store import prepare
from hvp.errors import DataError
from tests.helpers.small_reader import NumberedReader, recordings

SIZE = (64, 64)
FORK = multiprocessing.get_context("fork")


class OtherProgramFillsTheDisk(NumberedReader):
    """While one recording is read, something else takes all the space that is left."""

    def __init__(self, recordings, disk, during):
        super().__init__(recordings)
        self.disk = disk
        self.during = during

    def read(self, recording, size, channels):
        if recording.name == self.during:
            with (self.disk / "other").open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            assert shutil.disk_usage(self.disk).free == 0
        yield from super().read(recording, size, channels)


@pytest.mark.parametrize("during", ["train/1", "test/0"])
def test_a_disk_that_fills_up_is_one_sentence_and_a_second_run_goes_on(small_disk, during):
    data_dir = small_disk / "data"
    reader = OtherProgramFillsTheDisk(recordings(), small_disk, during)
    with pytest.raises(DataError, match=r"the disk is full.*data_dir.*the same command goes on"):
        prepare(reader, data_dir, SIZE, ["labels"])

    finished = [r.name for r in recordings()]
    finished = finished[: finished.index(during)]
    files = [path.name for path in data_dir.rglob("*") if path.suffix in (".npy", ".json")]
    assert sorted(files) == sorted(name.replace("/", "%2F") + ".npy" for name in finished)
    with pytest.raises(DataError, match="was not prepared"):
        PreparedDataset.open(next(data_dir.glob("numbered-*/64x64")), ["labels"])

    (small_disk / "other").unlink()
    again = NumberedReader(recordings())
    prepare(again, data_dir, SIZE, ["labels"]).verify()
    assert [name for name, _ in again.opened] == [r.name for r in recordings()][len(finished) :]


def _prepare_with_small_files(recorded, folder, messages):
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    try:
        prepare(NumberedReader(recorded), folder, SIZE, ["labels"])
    except DataError as error:
        messages.put(str(error))


def test_a_file_the_disk_refuses_is_one_sentence_and_a_second_run_goes_on(tmp_path):
    recorded = [Recording("short", "train", 6), Recording("long", "test", 12)]
    messages = FORK.SimpleQueue()
    process = FORK.Process(target=_prepare_with_small_files, args=(recorded, tmp_path, messages))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert "the disk is full (File too large" in messages.get()
    assert [path.name for path in tmp_path.rglob("*.npy")] == ["short.npy"]

    again = NumberedReader(recorded)
    prepare(again, tmp_path, SIZE, ["labels"]).verify()
    assert [name for name, _ in again.opened] == ["long"]
