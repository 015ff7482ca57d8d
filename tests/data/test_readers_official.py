"""Readers of KITTI raw, Cityscapes and DensePose on small datasets in their official layouts."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from hvp.clips import ClipId
from hvp.data.readers.cityscapes import TRAIN_IDS, CityscapesReader
from hvp.data.readers.densepose import DensePoseReader
from hvp.data.readers.kitti import KITTIReader
from hvp.data.store import prepare
from hvp.errors import DataError
from hvp.labels import CITYSCAPES
from tests.helpers.raw_png import GREY, PALETTE, RGB, RGBA, write_png
from tests.helpers.raw_trees import cityscapes_sequence, densepose_clip, kitti_drive
from tests.helpers.small_reader import write_labels, write_rgb

KITTI_SPLIT = {
    "val": ["2011_09_26_drive_0005"],
    "test": ["2011_09_26_drive_0104", "2011_09_26_drive_0079", "2011_09_26_drive_0070"],
    "exclude": [
        ["2011_09_28_drive_0054", "2011_09_28_drive_0220"],
        ["2011_09_29_drive_0108", "2011_09_29_drive_0108"],
    ],
    "view_size": (12, 16),
}


@pytest.fixture
def kitti(tmp_path):
    root = tmp_path / "kitti"
    for drive in ("0001", "0005", "0070", "0079", "0104"):
        kitti_drive(root, f"2011_09_26_drive_{drive}", range(4))
    for drive in ("0053", "0054", "0110", "0220", "0222"):
        kitti_drive(root, f"2011_09_28_drive_{drive}", range(3))
    kitti_drive(root, "2011_09_29_drive_0108", range(3))
    kitti_drive(root, "2011_10_03_drive_0042", [0, 1, 2, 7, 8])
    return root


def test_kitti_splits_exclusions_and_gaps(kitti):
    found = {r.name: (r.split, r.n_frames) for r in KITTIReader(kitti, **KITTI_SPLIT).recordings()}
    assert found == {
        "2011_09_26/2011_09_26_drive_0001_sync": ("train", 4),
        "2011_09_26/2011_09_26_drive_0005_sync": ("val", 4),
        "2011_09_26/2011_09_26_drive_0070_sync": ("test", 4),
        "2011_09_26/2011_09_26_drive_0079_sync": ("test", 4),
        "2011_09_26/2011_09_26_drive_0104_sync": ("test", 4),
        "2011_09_28/2011_09_28_drive_0053_sync": ("train", 3),
        "2011_09_28/2011_09_28_drive_0222_sync": ("train", 3),
        "2011_10_03/2011_10_03_drive_0042_sync-000000": ("train", 3),
        "2011_10_03/2011_10_03_drive_0042_sync-000007": ("train", 2),
    }


def test_kitti_images_are_the_frames_of_their_run(kitti, tmp_path):
    reader = KITTIReader(kitti, **KITTI_SPLIT)
    data = prepare(reader, tmp_path / "data", (8, 8), ["labels", "frames"])
    clip = ClipId("2011_10_03/2011_10_03_drive_0042_sync-000007", 0, 1)
    assert data.read("frames", clip, 9)[:, 0, 0, 0].tolist() == [7, 8]


def test_kitti_view_is_scaled_cropped_and_then_resized(tmp_path):
    kitti_drive(tmp_path, "2011_09_26_drive_0001", [0])
    reader = KITTIReader(tmp_path, **{**KITTI_SPLIT, "view_size": (128, 160)})
    source = np.tile(np.arange(1242) // 9, (375, 1)).astype(np.uint8)
    view = reader.transform(Image.fromarray(source), (64, 64), Image.Resampling.NEAREST)
    scaled = Image.fromarray(source).resize((424, 128), Image.Resampling.NEAREST)
    expected = scaled.crop((132, 0, 292, 128)).resize((64, 64), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(np.asarray(view), np.asarray(expected))
    with pytest.raises(DataError, match="narrower than the view"):
        reader.transform(Image.fromarray(source[:, :400]), (64, 64), Image.Resampling.NEAREST)


def test_kitti_labels_may_lie_elsewhere_and_suffice_for_stage_one(tmp_path):
    root, labels_root = tmp_path / "raw", tmp_path / "labels"
    root.mkdir()
    for drive in ("0001", "0005", "0070"):
        kitti_drive(root, f"2011_09_26_drive_{drive}", range(3), False, labels_root)
    reader = KITTIReader(root, **KITTI_SPLIT, labels_root=labels_root)
    assert {r.channels for r in reader.recordings()} == {("labels",)}
    prepare(reader, tmp_path / "data", (8, 8), ["labels"])
    with pytest.raises(DataError, match="3 of 3 recordings have no frames"):
        prepare(reader, tmp_path / "data", (8, 8), ["labels", "frames"])


def test_kitti_frames_without_labels_are_an_error(kitti):
    folder = kitti / "2011_09_26/2011_09_26_drive_0001_sync/image_03/data"
    (folder / "color_mask_0000000002.png").unlink()
    with pytest.raises(DataError, match="frame 2 has RGB but no label map"):
        KITTIReader(kitti, **KITTI_SPLIT).recordings()
    for file in folder.glob("color_mask_*"):
        file.unlink()
    with pytest.raises(DataError, match=r"no label maps .* for the 4 frames of this drive"):
        KITTIReader(kitti, **KITTI_SPLIT).recordings()


def test_kitti_empty_split_and_wrong_root_are_errors(kitti):
    with pytest.raises(DataError, match="no recording in split 'val'"):
        KITTIReader(kitti, **{**KITTI_SPLIT, "val": ["2011_09_26_drive_9999"]}).recordings()
    with pytest.raises(DataError, match="folder of KITTI raw that holds the dates"):
        KITTIReader(kitti / "2011_09_26", **KITTI_SPLIT).recordings()


def test_kitti_drive_without_anything_is_an_error(kitti):
    (kitti / "2011_09_26/2011_09_26_drive_0009_sync/image_03/data").mkdir(parents=True)
    with pytest.raises(DataError, match=r"drive_0009_sync.*no frame <10 digits>\.png"):
        KITTIReader(kitti, **KITTI_SPLIT).recordings()


def truncate(path):
    path.write_bytes(path.read_bytes()[:44])


def to_jpeg(path):
    Image.open(path).save(path, format="JPEG")


def relabel(path):
    Image.new("L", Image.open(path).size, 19).save(path)


DAMAGE = [
    (truncate, "labels", "cannot be decoded"),
    (truncate, "frames", "cannot be decoded"),
    (lambda p: p.write_text("no image"), "frames", "cannot be decoded"),
    (to_jpeg, "labels", "found JPEG of mode L"),
    (lambda p: Image.open(p).convert("RGB").save(p), "labels", "found PNG of mode RGB"),
    (relabel, "labels", r"label ids \[19\] are outside 0\.\.18"),
    (lambda p: write_rgb(p, (12, 30)), "frames", "RGB is 12x30 but its label map is"),
]


@pytest.mark.parametrize(("damage", "channel", "message"), DAMAGE)
def test_kitti_bad_files_are_named(kitti, tmp_path, damage, channel, message):
    folder = kitti / "2011_09_26/2011_09_26_drive_0079_sync/image_03/data"
    name = {"labels": "color_mask_0000000002.png", "frames": "0000000002.png"}[channel]
    damage(folder / name)
    with pytest.raises(DataError, match=rf"0079_sync/image_03/data/{name}: .*{message}"):
        prepare(KITTIReader(kitti, **KITTI_SPLIT), tmp_path / "d", (8, 8), ["labels", "frames"])


@pytest.fixture
def cityscapes(tmp_path):
    root = tmp_path / "cityscapes"
    cityscapes_sequence(root, "train", "aachen", 0, range(30))
    cityscapes_sequence(root, "train", "hamburg", 0, [*range(100, 130), *range(200, 230)])
    cityscapes_sequence(root, "val", "munster", 3, range(30))
    cityscapes_sequence(root, "test", "bonn", 1, range(5))
    return root


def test_cityscapes_splits_and_sequences(cityscapes):
    found = {r.name: r.split for r in CityscapesReader(cityscapes, (8, 16)).recordings()}
    assert found == {
        "aachen_000000_000000": "train",
        "hamburg_000000_000100": "train",
        "hamburg_000000_000200": "train",
        "munster_000003_000000": "test",
    }
    reader = CityscapesReader(cityscapes, (8, 16), evaluate_on="test")
    found = {r.name: r.split for r in reader.recordings()}
    assert found["munster_000003_000000"] == "val"
    assert found["bonn_000001_000000"] == "test"


def test_cityscapes_labels_and_frames_are_the_same_frame(cityscapes, tmp_path):
    reader = CityscapesReader(cityscapes, (8, 16))
    data = prepare(reader, tmp_path / "data", (4, 8), ["labels", "frames"])
    clip = ClipId("hamburg_000000_000200", 1, 3)
    numbers = list(range(201, 230, 3))
    assert data.read("labels", clip, 99)[:, 0, 0].tolist() == [n % 19 for n in numbers]
    assert data.read("frames", clip, 99)[:, 0, 0, 0].tolist() == numbers


def test_cityscapes_errors(cityscapes, tmp_path):
    folder = cityscapes / "leftImg8bit_sequence" / "val" / "munster"
    extra = folder / "color_mask_munster_000003_000004_again.png"
    write_labels(extra, (8, 16))
    with pytest.raises(DataError, match="frame 4 of munster_000003 is there twice"):
        CityscapesReader(cityscapes, (8, 16)).recordings()
    extra.unlink()
    (folder / "munster_000003_000007_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match="frame 7 has a label map but no RGB"):
        CityscapesReader(cityscapes, (8, 16)).recordings()
    with pytest.raises(DataError, match="no leftImg8bit_sequence/<split>/<city>"):
        CityscapesReader(tmp_path, (8, 16)).recordings()


@pytest.mark.parametrize(("damage", "channel", "message"), DAMAGE)
def test_cityscapes_bad_files_are_named(cityscapes, tmp_path, damage, channel, message):
    folder = cityscapes / "leftImg8bit_sequence" / "val" / "munster"
    name = "munster_000003_000007_leftImg8bit.png"
    name = f"color_mask_{name}" if channel == "labels" else name
    damage(folder / name)
    with pytest.raises(DataError, match=rf"val/munster/{name}: .*{message}"):
        prepare(CityscapesReader(cityscapes, (8, 16)), tmp_path / "d", (4, 8), ["labels", "frames"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_cityscapes_empty_split_is_an_error(cityscapes, split):
    shutil.rmtree(cityscapes / "leftImg8bit_sequence" / split)
    with pytest.raises(DataError, match=r"no recording in split '(train|test)'"):
        CityscapesReader(cityscapes, (8, 16)).recordings()


def test_cityscapes_gaps_split_a_sequence(cityscapes):
    folder = cityscapes / "leftImg8bit_sequence" / "train" / "aachen"
    for file in folder.glob("*aachen_000000_000012*"):
        file.unlink()
    found = {r.name: r.n_frames for r in CityscapesReader(cityscapes, (8, 16)).recordings()}
    assert found["aachen_000000_000000"] == 12
    assert found["aachen_000000_000013"] == 17


def test_cityscapes_label_of_another_aspect_is_an_error(cityscapes, tmp_path):
    cityscapes_sequence(cityscapes, "train", "aachen", 7, range(2), label_size=(8, 15))
    reader = CityscapesReader(cityscapes, (8, 16))
    with pytest.raises(DataError, match="RGB is 16x32 but its label map is 8x15"):
        prepare(reader, tmp_path / "data", (4, 8), ["labels", "frames"])


@pytest.fixture
def densepose(tmp_path):
    root = tmp_path / "dance"
    clips = {"V00001/C00001": range(3), "V00001/C00002": [0, 1, 5, 6], "V00002/C00001": range(2)}
    for clip, numbers in clips.items():
        densepose_clip(root, clip, numbers)
    split = {"train": {"V00001": ["C00001", "C00002"]}, "test": {"V00002": ["C00001"]}}
    (root / "split.json").write_text(json.dumps(split))
    return root


def test_densepose_reads_the_part_index_of_the_named_clips(densepose, tmp_path):
    reader = DensePoseReader(densepose)
    found = {r.name: (r.split, r.n_frames) for r in reader.recordings()}
    assert found == {
        "V00001/C00001": ("train", 3),
        "V00001/C00002-000000": ("train", 2),
        "V00001/C00002-000005": ("train", 2),
        "V00002/C00001": ("test", 2),
    }
    data = prepare(reader, tmp_path / "data", (8, 8), ["labels", "frames"])
    labels = data.read("labels", ClipId("V00001/C00002-000005", 0, 1), 9)
    assert np.unique(labels[0]).tolist() == [6]
    assert np.unique(labels[1]).tolist() == [7]
    assert data.label_space.n_classes == 25


def test_densepose_errors(densepose, tmp_path):
    split = densepose / "split.json"
    content = json.loads(split.read_text())
    split.write_text(json.dumps({**content, "dev": {}}))
    with pytest.raises(DataError, match="unknown split 'dev'"):
        DensePoseReader(densepose).recordings()
    split.write_text(json.dumps({**content, "val": {"V00009": ["C00001"]}}))
    with pytest.raises(DataError, match=r"V00009/C00001: no frame.*split\.json names it"):
        DensePoseReader(densepose).recordings()
    split.write_text("[1]")
    with pytest.raises(DataError, match=r"split\.json: cannot be read"):
        DensePoseReader(densepose).recordings()
    split.write_text(json.dumps(content))
    image = np.full((10, 12, 3), 25, np.uint8)
    Image.fromarray(image).save(densepose / "V00001/C00001/frame000001_IUV.png")
    with pytest.raises(DataError, match=r"frame000001_IUV\.png: label ids \[25\]"):
        prepare(DensePoseReader(densepose), tmp_path / "data", (8, 8), ["labels"])


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kind", [GREY, RGB, RGBA])
def test_densepose_takes_iuv_images_of_three_channels_alone(tmp_path, kind, depth):
    channels = {GREY: 1, RGB: 3, RGBA: 4}[kind]
    iuv = np.random.default_rng(kind).integers(0, 25, (7, 9, channels))
    path = write_png(tmp_path / "frame000001_IUV.png", iuv, kind, depth)
    reader = DensePoseReader(tmp_path)
    if kind == GREY or depth == 16:
        with pytest.raises(DataError, match=r"_IUV\.png: expected an IUV image .* found PNG"):
            reader.decode_labels(path)
    else:
        np.testing.assert_array_equal(np.asarray(reader.decode_labels(path)), iuv[..., 2])


def test_palettes_speak_of_train_ids_and_not_of_label_ids(tmp_path):
    palette = np.array(CITYSCAPES.palette)[::-1]
    ids = np.random.default_rng(0).integers(0, 19, (7, 9))
    (tmp_path / "leftImg8bit_sequence").mkdir()
    cityscapes = CityscapesReader(tmp_path, stored_size=(7, 9))
    for reader in (cityscapes, KITTIReader(tmp_path, **KITTI_SPLIT)):
        path = write_png(tmp_path / "color_mask.png", ids, PALETTE, palette=palette)
        np.testing.assert_array_equal(np.asarray(reader.decode_labels(path)), 18 - ids)
    path = write_png(tmp_path / "a_gtFine_labelIds.png", ids, PALETTE, palette=palette)
    expected = np.vectorize(lambda i: TRAIN_IDS.get(i, 255))(ids)
    np.testing.assert_array_equal(np.asarray(cityscapes.decode_labels(path)), expected)


@pytest.mark.parametrize(
    "content",
    [
        {"train": {"../V00001": ["C00001"]}}, {"train": {"V00001": ["../../etc"]}},
        {"train": {"V00001": ["/etc"]}}, {"train": {"V00001": "C00001"}},
        {"train": {"V00001": [1]}},
        {"train": {"V00001": ["C00001", "C00001"]}}, {"train": ["V00001"]}, {"train": None},
        {"train": {"V00001": ["C00001"]}, "test": {"V00001": ["C00001"]}},
    ],
    ids=range(9),
)  # fmt: skip
def test_a_hostile_split_of_densepose_is_one_error(densepose, content):
    (densepose / "split.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"split\.json: .*expected \{\"train\""):
        DensePoseReader(densepose).recordings()
    (densepose / "split.json").unlink()
    os.mkfifo(densepose / "split.json")
    with pytest.raises(DataError, match=r"split\.json: .*not a regular file"):
        DensePoseReader(densepose).recordings()
