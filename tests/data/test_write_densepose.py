"""Synthetic DensePose dataset: written by the walker world, read by the reader."""

from itertools import islice

import numpy as np

from hvp.data.readers.densepose import DensePoseReader
from hvp.data.synthetic.write_pose import main, write_densepose
from hvp.worlds.seeds import named_seed
from hvp.worlds.walker import world as walker


def test_written_densepose_reads_back_as_the_walks(tmp_path):
    counts = {"train": 1, "val": 1, "test": 1}
    write_densepose(tmp_path / "dance", counts, n_frames=3, size=(48, 48), frames=True)
    source = DensePoseReader(tmp_path / "dance")
    assert [(r.name, r.split, r.n_frames) for r in source.recordings()] == [
        ("V00001/C00001", "train", 3), ("V00002/C00001", "val", 3), ("V00003/C00001", "test", 3),
    ]  # fmt: skip
    first = list(source.read(source.recordings()[0], (48, 48), ["labels", "frames"]))
    world = islice(walker.stream(named_seed(0, "V00001"), (48, 48), 25.0), 3)
    for arrays, frame in zip(first, world, strict=True):
        np.testing.assert_array_equal(arrays["labels"], frame.labels)
        np.testing.assert_array_equal(arrays["frames"], frame.rgb)


def test_densepose_writer_is_a_command(tmp_path):
    command = ["densepose", str(tmp_path / "a/dance"), "--train", "1", "--val", "0", "--test", "1",
               "--frames", "2", "--size", "32"]  # fmt: skip
    assert main(command) == 0
    assert len(list((tmp_path / "a/dance").rglob("*_IUV.png"))) == 4
    assert not list((tmp_path / "a").glob(".*"))
