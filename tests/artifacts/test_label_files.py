"""Files of label maps, frame by frame: the bytes numpy writes, and damage that is noticed."""

from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.label_files import open_samples, read_sample
from hvp.errors import ArtifactError

SHAPE = (3, 7, 12, 15)


def write(path: Path, length: int = 7) -> np.ndarray:
    maps = np.random.default_rng(0).integers(0, 19, SHAPE, dtype=np.uint8)
    with open_samples(path, SHAPE) as add:
        for frame in maps.swapaxes(0, 1)[:length]:
            add(frame)
    return maps


def test_streamed_file_is_the_one_that_numpy_writes(tmp_path: Path) -> None:
    maps = write(tmp_path / "streamed.npz")
    np.savez_compressed(tmp_path / "whole.npz", samples=maps)
    assert (tmp_path / "streamed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_samples_are_read_side_by_side(tmp_path: Path) -> None:
    maps = write(tmp_path / "a.npz")
    readers = [read_sample(tmp_path / "a.npz", SHAPE, sample) for sample in range(3)]
    for t in range(7):
        for sample, reader in enumerate(readers):
            np.testing.assert_array_equal(next(reader), maps[sample, t])
    assert all(next(reader, None) is None for reader in readers)


def test_missing_frames_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected 7 frames \(context \+ horizon\), found 5"):
        write(tmp_path / "a.npz", length=5)
    assert list(tmp_path.iterdir()) == []


def test_damage_and_other_shapes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(ArtifactError, match=r"a\.npz: expected an \.npz .* uint8 \(3, 8, 12, 15\)"):
        next(read_sample(path, (3, 8, 12, 15), 0))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"a\.npz: expected an \.npz file"):
        list(read_sample(path, SHAPE, 2))
