import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvp.clips import ClipId
from hvp.data.images import BILINEAR, NEAREST, resize_center_crop
from hvp.data.readers.folder import FolderReader
from hvp.data.store import prepare
from hvp.errors import DataError
from tests.helpers.small_reader import write_labels, write_rgb

SIZE = (16, 16)


def make(root, n_frames, rgb=True, mode="L"):
    for sequence, count in n_frames.items():
        for i in range(count):
            write_labels(root / sequence / "label" / f"{i:06d}.png", (16, 32), i, mode)
            if rgb:
                write_rgb(root / sequence / "rgb" / f"{i:06d}.png", (16, 32), i)
    return root


def splits(reader):
    return {r.name: (r.split, r.n_frames) for r in reader.recordings()}


@pytest.mark.parametrize("mode", ["L", "P"])
def test_labels_and_frames_come_out_in_name_order(tmp_path, mode):
    root = make(tmp_path / "raw", {"a": 10, "b": 4, "c": 3}, mode=mode)
    data = prepare(FolderReader(root), tmp_path / "data", SIZE, ["labels", "frames"])
    labels = data.read("labels", ClipId("b", 0, 1), 99)
    stripes = np.arange(32) // 4
    expected = [(stripes[8:24] + i) % 19 for i in range(4)]  # the centre of the wide image
    np.testing.assert_array_equal(labels[:, 5], expected)
    frames = data.read("frames", ClipId("b", 0, 1), 99)
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert (frames[:, 1:, 3, 3] == (10, 20)).all()


def test_rgb_is_not_opened_for_labels(tmp_path):
    root = make(tmp_path / "raw", {"a": 10, "b": 4})
    for file in root.rglob("rgb/*.png"):
        file.write_bytes(b"not a picture")
    prepare(FolderReader(root), tmp_path / "data", SIZE, ["labels"])
    with pytest.raises(DataError, match=r"rgb/000000\.png: cannot be decoded"):
        prepare(FolderReader(root), tmp_path / "data", SIZE, ["labels", "frames"])


def test_default_splits(tmp_path):
    make(tmp_path, {"a": 10})
    assert splits(FolderReader(tmp_path)) == {
        "a-000000": ("train", 6), "a-000006": ("val", 2), "a-000008": ("test", 2),
    }  # fmt: skip
    make(tmp_path, {"b": 20, "c": 4})
    assert splits(FolderReader(tmp_path)) == {
        "a": ("train", 10), "b-000000": ("train", 16), "b-000016": ("val", 4), "c": ("test", 4),
    }  # fmt: skip
    make(tmp_path, {"d": 4, "e": 5})
    assert splits(FolderReader(tmp_path)) == {
        "a": ("train", 10), "b": ("train", 20), "c": ("train", 4), "d": ("val", 4),
        "e": ("test", 5),
    }  # fmt: skip


def test_named_splits(tmp_path):
    make(tmp_path, {"a": 10, "b": 5, "c": 4})
    reader = FolderReader(tmp_path, val=["c"], test=["a"])
    assert {name: split for name, (split, _) in splits(reader).items()} == {
        "a": "test", "b": "train", "c": "val",
    }  # fmt: skip
    reader = FolderReader(tmp_path, val=["c"])
    assert splits(reader)["b"][0] == "test"
    with pytest.raises(DataError, match="no sequence 'z'"):
        FolderReader(tmp_path, val=["z"]).recordings()
    with pytest.raises(DataError, match="no recording in split 'train'"):
        FolderReader(tmp_path, val=["a"], test=["b", "c"]).recordings()


def test_a_piece_of_a_cut_sequence_starts_where_it_says(tmp_path):
    root = make(tmp_path / "raw", {"a": 10, "b": 4})
    data = prepare(FolderReader(root), tmp_path / "data", SIZE, ["frames"])
    assert data.read("frames", ClipId("a-000008", 0, 1), 9)[:, 0, 0, 0].tolist() == [8, 9]


def test_class_file(tmp_path):
    root = make(tmp_path / "raw", {"a": 10, "b": 4})
    classes = tmp_path / "classes.json"
    entries = [{"name": f"class {i}", "color": [i, 0, 0]} for i in range(7)]
    classes.write_text(json.dumps({"classes": entries}))
    reader = FolderReader(root, classes=classes)
    assert reader.label_space.n_classes == 7
    with pytest.raises(DataError, match=r"a/label/000002\.png: label ids \[7\] are outside 0\.\.6"):
        prepare(reader, tmp_path / "data", SIZE, ["labels"])


def test_settings_change_with_the_files_the_classes_and_the_splits(tmp_path):
    make(tmp_path, {"a": 10, "b": 4, "c": 4})
    before = FolderReader(tmp_path).settings()
    assert before == FolderReader(tmp_path).settings()
    assert before != FolderReader(tmp_path, val=["b"]).settings()
    with (tmp_path / "b" / "label" / "000001.png").open("ab") as file:
        file.write(b"more")
    assert before != FolderReader(tmp_path).settings()


def truncate(path):
    path.write_bytes(path.read_bytes()[:40])


def to_colour(path):
    Image.open(path).convert("RGB").save(path)


def to_jpeg(path):
    Image.open(path).save(path, format="JPEG")


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (truncate, "label/000002.png", r"a/label/000002\.png: cannot be decoded"),
        (to_colour, "label/000002.png", "found PNG of mode RGB"),
        (to_jpeg, "label/000002.png", "found JPEG of mode L"),
        (truncate, "rgb/000002.png", r"a/rgb/000002\.png: cannot be decoded"),
        (
            lambda p: write_rgb(p, (8, 16)),
            "rgb/000002.png",
            "RGB is 8x16 but its label map is 16x32",
        ),
        (lambda p: p.unlink(), "rgb/000002.png", "10 label maps but 9 RGB.*000002"),
        (lambda p: p.unlink(), "label/000002.png", "9 label maps but 10 RGB.*000002"),
    ],
)
def test_bad_files_are_named(tmp_path, damage, file, message):
    root = make(tmp_path / "raw", {"a": 10, "b": 4})
    damage(root / "a" / file)
    with pytest.raises(DataError, match=message):
        prepare(FolderReader(root), tmp_path / "data", SIZE, ["labels", "frames"])


def test_missing_or_empty_roots_are_errors(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        FolderReader(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no <sequence>/label, <sequence>/rgb or \*\.mp4"):
        FolderReader(tmp_path).recordings()
    (tmp_path / "a" / "label").mkdir(parents=True)
    with pytest.raises(DataError, match=r"no \*\.png"):
        FolderReader(tmp_path).recordings()


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (33, 33), (128, 256), (375, 1242)])
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (7, 31), (90, 90)])
def test_cover_keeps_the_aspect_and_the_centre(shape, size):
    ramp = np.add.outer(np.linspace(0, 100, shape[0]), np.linspace(0, 100, shape[1]))
    image = Image.fromarray(ramp.astype(np.uint8))
    result = np.asarray(resize_center_crop(image, size, BILINEAR)).astype(float)
    assert result.shape == size
    assert abs(result.mean() - 100) < 3
    scale = max(size[0] / shape[0], size[1] / shape[1])
    slope = np.diff(result.mean(0)).mean()
    assert slope == pytest.approx(100 / (shape[1] - 1) / scale, rel=0.25)
    ids = np.asarray(resize_center_crop(image, size, NEAREST))
    assert set(np.unique(ids)) <= set(np.unique(image))


def test_real_driving_sequences(tmp_path):
    root = Path(os.environ.get("HVP_DRIVING_DIR", "../shared/data/driving"))
    if not root.is_dir():
        pytest.skip(f"{root} is not there: real dash-cam sequences for tests")
    reader = FolderReader(root, test=["kitti_a"])
    assert splits(reader)["kitti_a"] == ("test", 91)
    data = prepare(reader, tmp_path, (64, 64), ["labels"])
    labels = data.read("labels", ClipId("kitti_a", 0, 1), 91)
    assert labels.shape == (91, 64, 64)
    assert set(np.unique(labels)) <= set(range(19))
    assert (labels[:, 50:] == 0).mean() > 0.5  # road at the bottom


def test_excluding_everything_and_names_that_are_no_utf8_are_named(tmp_path):
    root = make(tmp_path / "raw", {"a": 3, "b": 3, "c": 3})
    with pytest.raises(DataError, match=r"exclude leaves none of the 3 sequences"):
        FolderReader(root, exclude=["*"]).recordings()
    with pytest.raises(DataError, match=r"no sequence 'a' in .* \(it is excluded\)"):
        FolderReader(root, val=["a"], exclude=["a"]).recordings()
    (root / "a").rename(root / os.fsdecode(b"b\xff"))
    with pytest.raises(DataError, match="its name is not UTF-8"):
        FolderReader(root).settings()
