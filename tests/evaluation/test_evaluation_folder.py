"""Predictions of any model from a plain folder: the layouts that are read, and what is refused."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvp.artifacts.predictions import PredictedClip
from hvp.clips import ClipId
from hvp.errors import DataError
from hvp.evaluation.folder import FolderPredictions, folder_digest, write_clip_list
from hvp.labels import CITYSCAPES
from hvp.media import lossless_writer
from tests.helpers.raw_png import PALETTE, RGB, write_png

SIZE = (12, 16)
CLIPS = [PredictedClip(ClipId(n, 4, 2), context=2, horizon=3, samples=1) for n in ("a/b", "c")]


def frames(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (3, *SIZE, 3), dtype=np.uint8)


def labels(seed: int) -> np.ndarray:
    return frames(seed)[..., 0] % 19


def write_pictures(folder: Path, pictures: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{number:03d}.png")


def make(root: Path) -> Path:
    """Two clips of two samples each: pictures, and RGB as a video beside label pictures."""
    for n, clip in enumerate(CLIPS):
        write_pictures(root / clip.id / "first" / "rgb", frames(2 * n))
        write_pictures(root / clip.id / "first" / "label", labels(2 * n))
        write_pictures(root / clip.id / "second" / "label", labels(2 * n + 1))
        with lossless_writer(root / clip.id / "second" / "rgb.mkv", 10) as add:
            for frame in frames(2 * n + 1):
                add(frame)
    return root


def read(root: Path) -> FolderPredictions:
    return FolderPredictions(root, CLIPS, SIZE, CITYSCAPES)


def test_pictures_and_videos_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = read(make(tmp_path))
    assert (folder.n_samples, folder.has_frames, folder.has_labels) == (2, True, True)
    for n, clip in enumerate(CLIPS):
        for sample, (rgb, maps) in enumerate(
            zip(folder.frames(clip), folder.labels(clip), strict=True)
        ):
            np.testing.assert_array_equal(np.stack(list(rgb)), frames(2 * n + sample))
            np.testing.assert_array_equal(np.stack(list(maps)), labels(2 * n + sample))


def test_a_video_may_be_a_sample_by_itself(tmp_path: Path) -> None:
    for clip in CLIPS:
        with lossless_writer(tmp_path / clip.id / "0.mkv", 10) as add:
            for frame in frames(0):
                add(frame)
    folder = read(tmp_path)
    assert (folder.n_samples, folder.has_frames, folder.has_labels) == (1, True, False)
    assert len(list(folder.frames(CLIPS[1])[0])) == 3


def test_digest_changes_with_any_byte(tmp_path: Path) -> None:
    before = folder_digest(make(tmp_path))
    assert before == folder_digest(tmp_path)
    write_pictures(tmp_path / "note", frames(0)[:1])
    assert folder_digest(tmp_path) != before


def spoil_count(root: Path) -> None:
    (root / "c@4+2/first/rgb/002.png").unlink()


def spoil_context(root: Path) -> None:
    shutil.rmtree(root / "c@4+2/first/label")
    write_pictures(root / "c@4+2/first/label", np.concatenate((labels(0), labels(1)[:2])))


def spoil_kind(root: Path) -> None:
    shutil.rmtree(root / "c@4+2/second/label")


def spoil_samples(root: Path) -> None:
    shutil.rmtree(root / "c@4+2/second")


def spoil_clip(root: Path) -> None:
    shutil.rmtree(root / "a")


def spoil_layout(root: Path) -> None:
    (root / "c@4+2/first/rgb").rename(root / "c@4+2/first/pictures")
    (root / "c@4+2/first/label").rename(root / "c@4+2/first/maps")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_count, r"first/rgb: 2 frames, expected the 3 predicted ones of clip c@4\+2"),
        (spoil_context, r"first/label: 5 frames, .* leave out the 2 context frames"),
        (spoil_kind, r"second/rgb\.mkv: RGB and no label maps, unlike the first sample of a/b@4"),
        (spoil_samples, r"c@4\+2: 1 samples, but a/b@4\+2 has 2"),
        (spoil_clip, r"a/b@4\+2: no such folder; expected one for each of the 2 evaluated clips"),
        (spoil_layout, r"first: neither rgb nor label; expected a folder rgb/"),
    ],
)
def test_what_is_missing_or_too_much_is_named(tmp_path: Path, spoil, message: str) -> None:
    spoil(make(tmp_path))
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_frames_of_another_size_and_unknown_ids_are_named(tmp_path: Path) -> None:
    folder = read(make(tmp_path))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "c@4+2/first/rgb/001.png")
    Image.fromarray(np.full(SIZE, 40, np.uint8)).save(tmp_path / "c@4+2/first/label/001.png")
    with pytest.raises(DataError, match=r"001\.png: a frame of 8x8 .* dataset.size is 12x16"):
        list(folder.frames(CLIPS[1])[0])
    with pytest.raises(DataError, match=r"001\.png: label ids \[40\]"):
        list(folder.labels(CLIPS[1])[0])


def test_clip_list_says_what_the_folders_are_named_by(tmp_path: Path) -> None:
    write_clip_list(tmp_path / "clips.csv", CLIPS)
    assert (tmp_path / "clips.csv").read_text().splitlines() == [
        "clip,recording,first,step,context,horizon",
        "a/b@4+2,a/b,4,2,2,3",
        "c@4+2,c,4,2,2,3",
    ]


def test_no_recording_is_a_formula_in_the_clip_list(tmp_path: Path) -> None:
    clip = PredictedClip(ClipId("=cmd|' /C calc'!A0", 4, 2), context=2, horizon=3, samples=1)
    write_clip_list(tmp_path / "clips.csv", [clip])
    with (tmp_path / "clips.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["clip"], row["recording"]) == (f"'{clip.id}", f"'{clip.clip.recording}")


def test_pictures_are_taken_upright_and_by_the_colours_of_the_classes(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(19)
    for clip in CLIPS:
        for n, (rgb, ids) in enumerate(zip(frames(0), labels(0), strict=True)):
            folder = tmp_path / clip.id / "0"
            # Stored lying; a viewer turns them clockwise.
            write_png(folder / f"rgb/{n}.png", np.rot90(rgb), RGB, orientation=6)
            palette, numbered = np.array(CITYSCAPES.palette)[order], np.argsort(order)[ids]
            path = folder / f"label/{n}.png"
            write_png(path, np.rot90(numbered), PALETTE, palette=palette, orientation=6)
    (tmp_path / CLIPS[0].id / "0" / "rgb" / "._1.png").write_bytes(b"what macOS leaves behind")
    folder = read(tmp_path)
    for clip in CLIPS:
        np.testing.assert_array_equal(list(folder.frames(clip)[0]), frames(0))
        np.testing.assert_array_equal(list(folder.labels(clip)[0]), labels(0))
    palette[3] = 1, 2, 3
    write_png(path, np.arange(19).reshape(1, 19), PALETTE, palette=palette)
    with pytest.raises(DataError, match=r"c@4\+2/0/label/2\.png: its palette gives id"):
        list(folder.labels(CLIPS[1])[0])
