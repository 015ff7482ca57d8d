"""Frame order: numbers in names count as numbers; names that leave the order open are refused."""

from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.predictions import PredictedClip
from hvp.clips import ClipId
from hvp.data.frame_order import in_frame_order
from hvp.data.readers.folder import FolderReader
from hvp.errors import DataError
from hvp.evaluation.folder import FolderPredictions
from hvp.labels import CITYSCAPES
from hvp.media import write_mp4
from hvp.text import natural_key
from tests.helpers.raw_png import GREY, write_png

LETTERS = list("aZ_-. #~é")


def ordered(names: list[str]) -> list[str]:
    shuffled = np.random.default_rng(len(names)).permutation(names).tolist()
    return [path.name for path in in_frame_order(map(Path, shuffled))]


@pytest.mark.parametrize("seed", range(20))
def test_padded_names_come_in_the_order_of_their_characters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 12))

    def name() -> str:
        parts = [
            "".join(rng.choice(LETTERS, 2)) if n % 2 else f"{rng.integers(0, 10**width):0{width}d}"
            for n in range(rng.integers(1, 6))
        ]
        return "".join(parts)

    names = {name() for _ in range(50)}
    assert sorted(names, key=natural_key) == sorted(names)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_of_any_width_count_as_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.unique(10 ** rng.uniform(0, 7, 60) // 1).astype(int)
    for form in ("{}.png", "frame_{}.png", "cam2 frame{:04d}_rgb.jpg", "{:04d}.png"):
        names = [form.format(n) for n in numbers]
        assert ordered(names) == names
        assert sorted(names) != names


def test_parts_that_follow_each_other_and_names_without_numbers_have_an_order() -> None:
    names = ["a_0.png", "a_9.png", "b_10.png", "b_11.png"]
    assert ordered(names) == names
    assert ordered(["b.png", "a.png", "cover.png"]) == ["a.png", "b.png", "cover.png"]
    names = ["0.00.png", "0.25.png", "0.50.png", "1.00.png"]
    assert ordered(names) == names
    names = ["-0008.png", "-0009.png", "-0010.png"]
    assert ordered(names) == names
    names = [f"2024_01_02_{hour}_{m}.png" for hour in (9, 10) for m in (5, 59, 7) if m != 7]
    assert ordered(names) == names


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0.png", "1.png", "01.png"], r"1\.png: the same frame as 0?1\.png"),
        (["a1.png", "a2.png", "a2.jpg"], r"a2\.jpg: the same frame as a2\.png"),
        (["left_0.png", "right_0.png", "left_1.png"], r"right_0\.png: .* follow .* left_1\.png"),
        (["b_0.png", "b_1.png", "a_2.png"], r"b_0\.png: .* that of a_2\.png"),
        (["0.png", "1.png", "1 (copy).png"], "the order of the frames is open"),
        (["0.0.png", "0.25.png", "0.5.png"], "decimal numbers of different lengths"),
        (["-3.png", "-2.png", "-1.png"], "a negative number"),
        (["f\u0660.png", "f\u0661.png"], "digits of another script"),
    ],
)
def test_names_that_leave_the_order_open_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ordered(names)


def write_sequence(folder: Path, values: np.ndarray, form: str) -> None:
    for number, value in enumerate(values):
        for kind in ("rgb", "label"):
            write_png(folder / kind / form.format(number), np.full((8, 8), value), GREY)


def test_reader_and_evaluation_folder_count(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 19, 12)
    for n in (9, 10, 11):
        write_sequence(tmp_path / "raw" / f"drive_{n}", values, "frame_{}.png")
    reader = FolderReader(tmp_path / "raw")
    first, *_, last = reader.recordings()
    assert (first.name[:7], last.name, last.split) == ("drive_9", "drive_11", "test")
    for frame, value in zip(reader.read(last, (8, 8), ["labels", "frames"]), values, strict=True):
        assert (frame["labels"] == value).all()
        assert (frame["frames"] == value).all()

    clip = PredictedClip(ClipId("r", 0, 1), context=2, horizon=12, samples=11)
    for sample in range(11):
        write_sequence(tmp_path / "sets" / clip.id / str(sample), (values + sample) % 19, "{}.png")
    found = FolderPredictions(tmp_path / "sets", [clip], (8, 8), CITYSCAPES)
    for kind in (found.frames(clip), found.labels(clip)):
        for sample, maps in enumerate(kind):
            expected = (values + sample) % 19
            assert [int(m.flat[0]) for m in maps] == expected.tolist()
    write_png(tmp_path / "sets" / clip.id / "3" / "rgb" / "01.png", np.zeros((8, 8), int), GREY)
    with pytest.raises(DataError, match="the same frame as"):
        FolderPredictions(tmp_path / "sets", [clip], (8, 8), CITYSCAPES)


def test_turned_pictures_pair_with_turned_label_maps(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 19, (6, 9))
    folder = tmp_path / "a"
    for n in range(5):
        write_png(folder / "rgb" / f"{n}.png", values, GREY, orientation=6)
        upright = np.rot90(values, -1)
        write_png(folder / "label" / f"{n}.png", upright if n else values, GREY,
                  orientation=1 if n else 6)  # fmt: skip
    reader = FolderReader(tmp_path)
    for recording in reader.recordings():
        for channels in (["labels", "frames"], ["frames"], ["labels"]):
            for arrays in reader.read(recording, (9, 6), channels):
                for array in arrays.values():
                    found = array if array.ndim == 2 else array[..., 0]
                    np.testing.assert_array_equal(found, upright)


def test_folders_of_videos_count(tmp_path: Path) -> None:
    for n in (2, 9, 10):
        write_mp4(tmp_path / f"v{n}.mp4", [np.zeros((16, 16, 3), np.uint8)] * 3, 10)
        for frame in range(3):
            label = tmp_path / f"v{n}" / "label" / f"{frame}.png"
            write_png(label, np.zeros((16, 16), int), GREY)
    reader = FolderReader(tmp_path, val=["v2"])
    assert [(r.name, r.split) for r in reader.recordings()] == [
        ("v2", "val"), ("v9", "train"), ("v10", "test"),
    ]  # fmt: skip
