"""NPZ files of label maps: read by numpy, any sample by itself, and damage that is noticed."""

import resource
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.label_files import LabelFile, Shape, open_samples
from hvp.errors import ArtifactError

SHAPE = (3, 7, 12, 15)


def write(path: Path, length: int = 7) -> np.ndarray:
    maps = np.random.default_rng(0).integers(0, 19, SHAPE, dtype=np.uint8)
    with open_samples(path, SHAPE) as add:
        for frame in maps.swapaxes(0, 1)[:length]:
            add(frame)
    return maps


def read_sample(path: Path, shape: Shape, sample: int) -> Iterator[np.ndarray]:
    return LabelFile(path, shape).sample(sample)


def test_numpy_and_zip_tools_read_the_file_as_one_deflated_array(tmp_path: Path) -> None:
    maps = write(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        assert content["samples"].dtype == np.uint8
        np.testing.assert_array_equal(content["samples"], maps)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.testzip() is None
        info = archive.getinfo("samples.npy")
        assert (info.compress_type, info.file_size) == (zipfile.ZIP_DEFLATED, 128 + maps.size)


def test_the_same_frames_make_the_same_bytes_as_small_as_numpy_makes_them(tmp_path: Path) -> None:
    maps = write(tmp_path / "a.npz")
    write(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    np.savez_compressed(tmp_path / "whole.npz", samples=maps)
    size = (tmp_path / "a.npz").stat().st_size
    assert size < (tmp_path / "whole.npz").stat().st_size + 500


@pytest.mark.parametrize("sample", range(3))
def test_a_sample_is_read_from_its_own_bytes_alone(tmp_path: Path, sample: int) -> None:
    path = tmp_path / "a.npz"
    maps = write(path)
    content = bytearray(path.read_bytes())
    first = content.index(b"samples.npy") + len(b"samples.npy") + 20  # behind the ZIP64 field
    for other, (begin, size, _) in enumerate(np.load(path)["seek_table"]):
        if other != sample:
            content[first + begin : first + begin + size] = b"\xff" * size
    path.write_bytes(content)
    with pytest.raises((zlib.error, zipfile.BadZipFile)):
        np.load(path)["samples"]
    np.testing.assert_array_equal(list(read_sample(path, SHAPE, sample)), maps[sample])
    with pytest.raises(ArtifactError, match=r"a\.npz"):
        list(read_sample(path, SHAPE, (sample + 1) % 3))


@pytest.mark.parametrize("save", [np.savez_compressed, np.savez], ids=["deflated", "stored"])
def test_a_file_that_numpy_has_written_is_read(tmp_path: Path, save: Callable[..., None]) -> None:
    maps = write(tmp_path / "a.npz")
    save(tmp_path / "by_numpy.npz", samples=maps)
    for sample in range(3):
        found = list(read_sample(tmp_path / "by_numpy.npz", SHAPE, sample))
        np.testing.assert_array_equal(found, maps[sample])


def put_seek_table(path: Path, table: np.ndarray) -> None:
    """Replace the seek table of a file, with a right checksum."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        old = archive.read("seek_table.npy")
        crc = archive.getinfo("seek_table.npy").CRC
    new = old[:128] + table.astype("<i8").tobytes()
    assert len(new) == len(old)
    checksums = (value.to_bytes(4, "little") for value in (crc, zlib.crc32(new)))
    path.write_bytes(content.replace(old, new).replace(*checksums))


@pytest.mark.parametrize(
    ("row", "column", "change"),
    [
        (0, 0, -1), (1, 0, 1), (1, 1, -1), (2, 1, 10), (2, 1, 2**62), (0, 0, -(2**63)),
        (2, 0, -(10**6)), (0, 1, -(10**6)), (2, 2, 1),
    ],
)  # fmt: skip
def test_a_seek_table_that_does_not_fit_is_an_error(
    tmp_path: Path, row: int, column: int, change: int
) -> None:
    path = tmp_path / "a.npz"
    write(path)
    table = np.load(path)["seek_table"].astype(object)
    table[row, column] = max(table[row, column] + change, -(2**63))
    put_seek_table(path, table)
    with pytest.raises(
        ArtifactError, match=r"a\.npz: expected an \.npz file with `samples`, found"
    ):
        list(read_sample(path, SHAPE, 2))


def test_a_seek_table_of_another_file_is_an_error(tmp_path: Path) -> None:
    maps = write(tmp_path / "a.npz")
    table = np.load(tmp_path / "a.npz")["seek_table"]
    for save, name in ((np.savez_compressed, "deflated.npz"), (np.savez, "stored.npz")):
        save(tmp_path / name, samples=maps, seek_table=table)
        with pytest.raises(ArtifactError, match=name):
            list(read_sample(tmp_path / name, SHAPE, 1))


def test_two_samples_claimed_to_be_one_are_noticed_before_the_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write(path)
    (b0, s0, c0), (_, s1, _), (b2, s2, c2) = np.load(path)["seek_table"].tolist()
    put_seek_table(path, np.array([(b0, s0 + s1, c0), (b2, s2 - 1, c2), (b2 + s2 - 1, 1, c2)]))
    with pytest.raises(ArtifactError, match="a damaged sample"):
        list(read_sample(path, SHAPE, 0))


def test_a_seek_table_that_inflates_without_end_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    maps = write(tmp_path / "a.npz")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("samples.npy", "w") as member:
            np.lib.format.write_array(member, maps)
        with archive.open("seek_table.npy", "w") as member:
            header = {"descr": "<i8", "fortran_order": False, "shape": (3, 3)}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(64):
                member.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(ArtifactError, match="seek_table"):
        list(read_sample(path, SHAPE, 1))
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


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
        list(read_sample(path, SHAPE, 1))


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path: Path) -> None:
    path, shape = tmp_path / "a.npz", (2, 100, 256, 256)  # 12.5 MiB, 3 MiB of them deflated noise
    dice = np.random.default_rng(0)

    def frame(t: int) -> np.ndarray:
        noise = dice.integers(0, 19, (2, 128, 256), dtype=np.uint8)
        return np.concatenate([noise, np.full((2, 128, 256), t, np.uint8)], axis=1)

    tracemalloc.start()
    with open_samples(path, shape) as add:
        for t in range(100):
            add(frame(t))
    last = [int(map_HW[-1, -1]) for map_HW in read_sample(path, shape, 1)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last == list(range(100))
    assert peak < 2 << 20
    assert np.load(path)["samples"].shape == shape


def open_files() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


def test_any_number_of_samples_takes_one_open_file(tmp_path: Path) -> None:
    shape = (300, 2, 3, 4)
    maps = np.random.default_rng(0).integers(0, 19, shape, dtype=np.uint8)
    np.savez_compressed(tmp_path / "by_numpy.npz", samples=maps)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = max(open_files()) + 8
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
    try:
        with open_samples(tmp_path / "a.npz", shape) as add:
            for frame in maps.swapaxes(0, 1):
                add(frame)
        for name in ("a.npz", "by_numpy.npz"):
            file = LabelFile(tmp_path / name, shape)
            frames = zip(*map(file.sample, range(300)), strict=True)
            for t, frame in enumerate(frames):
                np.testing.assert_array_equal(np.stack(frame), maps[:, t])
            n_open = len(open_files())
            del file, frames
            assert len(open_files()) == n_open - 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("seed", range(3))
def test_each_sample_is_what_zlib_alone_makes_of_it(tmp_path: Path, seed: int) -> None:
    dice = np.random.default_rng(seed)
    shape = (*map(int, dice.integers(1, 5, 2)), *map(int, dice.integers(40, 200, 2)))
    maps = dice.integers(0, 19, shape, dtype=np.uint8)
    with open_samples(tmp_path / "a.npz", shape) as add:
        for frame in maps.swapaxes(0, 1):
            add(frame)
    content = (tmp_path / "a.npz").read_bytes()
    start = content.index(b"samples.npy") + len(b"samples.npy") + 20
    for (begin, size, crc), sample in zip(np.load(tmp_path / "a.npz")["seek_table"], maps,
                                          strict=True):  # fmt: skip
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        expected = b"".join(deflate.compress(frame.tobytes()) for frame in sample)
        expected += deflate.flush(zlib.Z_FULL_FLUSH)
        assert content[start + begin : start + begin + size] == expected
        assert crc == zlib.crc32(sample.tobytes())
