"""Pictures and videos that no rule takes: read, named in an error, or counted as left out."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from hvp.data.readers.base import Skip
from hvp.data.readers.cityscapes import CityscapesReader
from hvp.data.readers.densepose import DensePoseReader
from hvp.data.readers.folder import FolderReader
from hvp.data.readers.kitti import KITTIReader
from hvp.data.segformer.extraction import LabelExtractor
from hvp.data.store import prepare
from hvp.errors import DataError
from tests.helpers.raw_trees import (
    cityscapes_sequence,
    cityscapes_tree,
    densepose_tree,
    folder_tree,
    kitti_drive,
    kitti_tree,
)
from tests.helpers.small_reader import write_labels, write_rgb

KITTI_SPLIT = {
    "val": ["2011_09_26_drive_0005"],
    "test": ["2011_09_26_drive_0070"],
    "exclude": [["2011_09_28_drive_0054", "2011_09_28_drive_0220"]],
    "view_size": (12, 16),
}
DRIVE = Path("2011_09_26/2011_09_26_drive_0001_sync")


def maker(tmp_path: Path) -> LabelExtractor:
    """Extraction whose model is never loaded: settings and indexing need its files alone."""
    model = tmp_path / "model"
    model.mkdir(exist_ok=True)
    return LabelExtractor(str(model), tmp_path / "data")


def unread(reader) -> dict[str, Skip]:
    return {skip.reason: skip for skip in reader.skipped() if skip.unread}


def to_jpeg(path: Path, suffix: str = ".jpg") -> Path:
    Image.open(path).save(path.with_suffix(suffix), format="JPEG")
    path.unlink()
    return path.with_suffix(suffix)


@pytest.fixture
def kitti(tmp_path):
    return kitti_tree(tmp_path / "kitti")


def kitti_reader(root, **options):
    return KITTIReader(root, **{**KITTI_SPLIT, **options})


def test_nothing_is_unread_in_trees_as_published(tmp_path, kitti):
    """Other cameras and sensors, excluded drives, other packages, and what systems leave behind."""
    for sensor in ("image_00", "image_02", "velodyne_points"):
        write_rgb(kitti / DRIVE / sensor / "data" / f"{0:010d}.png", (12, 40))
    extract = kitti / "2011_09_26" / "2011_09_26_drive_0001_extract"
    write_rgb(extract / "image_03" / "data" / f"{0:010d}.png", (12, 40))
    for name in ("._0000000000.png", ".DS_Store", "Thumbs.db", "timestamps.txt"):
        (kitti / DRIVE / "image_03" / "data" / name).write_bytes(b"x")
    reader = kitti_reader(kitti)
    assert unread(reader) == {}
    assert reader.skipped()[1].names == ("2011_09_26/2011_09_26_drive_0001_extract",)
    cityscapes = cityscapes_tree(tmp_path / "cityscapes")
    for package in ("leftImg8bit", "gtFine", "rightImg8bit_sequence", "disparity_sequence"):
        write_rgb(cityscapes / package / "train" / "aachen" / "a.png", (4, 4))
    assert unread(CityscapesReader(cityscapes, (8, 16))) == {}
    densepose = densepose_tree(tmp_path / "densepose")
    write_rgb(densepose / "V00001" / "C00001" / "frame000001_INDS.png", (4, 4))
    assert unread(DensePoseReader(densepose)) == {}
    assert unread(FolderReader(folder_tree(tmp_path / "folder"))) == {}


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".PNG"])
def test_drives_of_kitti_as_jpeg_and_in_capitals_are_read(kitti, tmp_path, suffix):
    before = kitti_reader(kitti).recordings()
    for file in kitti.rglob("image_03/data/0*.png"):
        if suffix == ".PNG":
            file.rename(file.with_suffix(suffix))
        else:
            to_jpeg(file, suffix)
    reader = kitti_reader(kitti)
    assert reader.recordings() == before
    assert unread(reader) == {}
    data = prepare(reader, tmp_path / "data", (8, 8), ["labels", "frames"])
    assert (kitti / DRIVE / "image_03" / "data" / f"0000000003{suffix}").is_file()
    red = next(reader.read(before[0], (8, 8), ["frames"]))["frames"][..., 0]
    assert red.max() <= 3  # frame 0 is red 0
    assert len(data.recordings) == len(before)


def test_pictures_that_no_rule_takes_are_rows_of_what_is_left_out(kitti):
    for name in ("5.png", "0000000001.bmp", "0000000002.bmp"):
        write_rgb(kitti / DRIVE / "image_03" / "data" / name, (12, 40))
    (kitti / DRIVE / "drive.MPG").write_bytes(b"video")
    write_rgb(kitti / "maps" / "all" / "city.png", (4, 4))
    data = f"{DRIVE.as_posix()}/image_03/data"
    assert unread(kitti_reader(kitti)) == {
        "*.bmp that no rule takes": Skip(
            "*.bmp that no rule takes",
            (f"{data}/0000000001.bmp", f"{data}/0000000002.bmp"),
            2,
            unread=True,
        ),
        "*.MPG that no rule takes": Skip(
            "*.MPG that no rule takes", (f"{DRIVE.as_posix()}/drive.MPG",), 0, unread=True
        ),
        "*.png that no rule takes": Skip(
            "*.png that no rule takes", (f"{data}/5.png", "maps/all/city.png"), 2, unread=True
        ),
    }


def test_a_drive_whose_frames_no_rule_takes_is_an_error_that_names_them(kitti):
    for file in list((kitti / DRIVE / "image_03" / "data").iterdir()):
        file.rename(file.with_name(f"frame_{file.name}"))
    with pytest.raises(DataError, match=r"0001_sync.*\(found frame_0000000000\.png.* 12 in all\)"):
        kitti_reader(kitti).recordings()


def test_a_folder_that_links_to_one_above_it_is_walked_once(kitti):
    (kitti / DRIVE / "image_03" / "again").symlink_to(kitti, target_is_directory=True)
    linked = kitti.parent / "elsewhere"
    write_rgb(linked / "a.png", (4, 4))
    (kitti / "linked").symlink_to(linked, target_is_directory=True)
    assert [skip.names for skip in unread(kitti_reader(kitti)).values()] == [("linked/a.png",)]


KITTI_LABELS = {
    "JPEG in its place": "image_03/data/color_mask_0000000001.jpg",
    "other digits": "image_03/data/color_mask_1.png",
    "another folder": "image_03/labels/0000000001.png",
    "beside the camera": "semantic/0000000001.png",
}


@pytest.mark.parametrize("name", KITTI_LABELS.values(), ids=KITTI_LABELS)
def test_label_maps_that_no_rule_takes_are_never_replaced_by_made_ones(kitti, tmp_path, name):
    for file in (kitti / DRIVE).rglob("color_mask_*"):
        file.unlink()
    options = {"extract_labels": maker(tmp_path)}
    assert kitti_reader(kitti, **options).settings()["extracted"]["recordings"] == [
        "2011_09_26/2011_09_26_drive_0001_sync"
    ]
    path = kitti / DRIVE / name
    write_labels(path.with_suffix(".png"), (12, 40))
    if path.suffix == ".jpg":
        to_jpeg(path.with_suffix(".png"))
    with pytest.raises(DataError, match=rf"{path.name}: may be a label map of .*0001_sync.*made"):
        kitti_reader(kitti, **options).settings()
    path.unlink()
    write_rgb(kitti / DRIVE / "image_03" / "preview.png", (12, 40))
    reader = kitti_reader(kitti, **options)
    assert [skip.names for skip in unread(reader).values()] == [
        (f"{DRIVE.as_posix()}/image_03/preview.png",)
    ]


@pytest.mark.parametrize("city", ["frankfurt2", "a-b", "Sankt-Augustin-1"])
def test_cities_with_digits_hyphens_and_capitals_are_read(tmp_path, city):
    root = cityscapes_tree(tmp_path / "raw")
    cityscapes_sequence(root, "train", city, 4, range(5))
    reader = CityscapesReader(root, (8, 16))
    assert f"{city}_000004_000000" in {r.name for r in reader.recordings()}
    assert unread(reader) == {}


def test_sequences_of_cityscapes_as_jpeg_get_png_label_maps(tmp_path):
    root = cityscapes_tree(tmp_path / "raw")
    for file in root.rglob("train/aachen/*"):
        if file.name.startswith("color_mask"):
            file.unlink()
        else:
            to_jpeg(file)
    reader = CityscapesReader(root, (8, 16), extract_labels=maker(tmp_path))
    source = reader.sources["aachen_000000_000000"]
    assert {file.suffix for file in source.extracted} == {".png"}
    assert {file.suffix for file in source.frames} == {".jpg"}


def test_a_city_whose_pictures_no_rule_takes_is_an_error_and_single_ones_are_a_row(tmp_path):
    root = cityscapes_tree(tmp_path / "raw")
    odd = root / "leftImg8bit_sequence" / "train" / "bremen" / "frame_000001.png"
    write_rgb(root / "leftImg8bit_sequence" / "train" / "aachen" / odd.name, (16, 32))
    rows = unread(CityscapesReader(root, (8, 16)))
    assert [skip.names for skip in rows.values()] == [
        ("leftImg8bit_sequence/train/aachen/frame_000001.png",)
    ]
    write_rgb(odd, (16, 32))
    with pytest.raises(DataError, match=r"train/bremen: no <city>.*\(found frame_000001\.png\)"):
        CityscapesReader(root, (8, 16)).recordings()


def test_densepose_names_what_a_clip_has_instead(tmp_path):
    root = densepose_tree(tmp_path / "raw")
    extra = root / "V00001" / "C00001" / "frame000001_IUV.webp"
    write_rgb(extra, (10, 12))
    assert list(unread(DensePoseReader(root))) == ["*.webp that no rule takes"]
    for file in (root / "V00001" / "C00001").glob("*.png"):
        file.unlink()
    with pytest.raises(DataError, match=r"V00001/C00001: no frame.*found frame000000\.jpg"):
        DensePoseReader(root).recordings()


@pytest.mark.parametrize("name", ["labels", "Label", "mask", "seg", "gt", "boden"])
def test_a_folder_of_label_maps_under_another_name_is_named(tmp_path, name):
    root = folder_tree(tmp_path / "raw")
    (root / "b" / "label").rename(root / "b" / name)
    with pytest.raises(DataError, match=r"b/label: no \*\.png .*\(found 000000\.png, .*10 in all"):
        FolderReader(root).recordings()
    with pytest.raises(DataError, match=rf"b/{name}/000000\.png: may be a label map of b"):
        FolderReader(root, extract_labels=maker(tmp_path)).recordings()
    kept = FolderReader(root, extract_labels=maker(tmp_path), exclude=[f"*/{name}"])
    assert kept.settings()["extracted"]["recordings"] == ["b"]


def test_label_maps_in_a_tree_of_their_own_are_not_overlooked(tmp_path):
    root = folder_tree(tmp_path / "raw")
    for name in ("a", "b", "c"):
        (root / "labels").mkdir(exist_ok=True)
        (root / name / "label").rename(root / "labels" / name)
    with pytest.raises(DataError, match=r"labels/a/000000\.png: may be .* of a, .*3 such sequ"):
        FolderReader(root, extract_labels=maker(tmp_path)).recordings()


def test_given_label_maps_do_not_mind_other_pictures(tmp_path):
    root = folder_tree(tmp_path / "raw")
    shutil.copytree(root / "b" / "label", root / "b" / "masks")
    rows = unread(FolderReader(root, extract_labels=maker(tmp_path)))
    assert [len(skip.names) for skip in rows.values()] == [10]


@pytest.mark.parametrize(
    ("folder", "message"),
    [("label", r"holds \.png \(this one of 10\)"), ("rgb", r"holds \.png or \.jpg or \.jpeg")],
)
def test_pictures_of_another_kind_among_the_frames_are_an_error(tmp_path, folder, message):
    root = folder_tree(tmp_path / "raw")
    path = root / "a" / folder / "000004.png"
    if folder == "label":
        path = to_jpeg(path)
    else:
        Image.open(path).save(path.with_suffix(".webp"))
        path.unlink()
    with pytest.raises(DataError, match=rf"a/{folder}/000004\.\w+: is not read, .*{message}"):
        FolderReader(root).recordings()


def test_label_maps_as_jpeg_are_never_replaced_by_made_ones(tmp_path):
    root = folder_tree(tmp_path / "raw")
    for file in list((root / "a" / "label").iterdir()):
        to_jpeg(file)
    with pytest.raises(DataError, match=r"a/label/000000\.jpg: is not read.*10 such files of 10"):
        FolderReader(root, extract_labels=maker(tmp_path)).recordings()


def test_sequences_without_label_and_rgb_are_rows_with_their_pictures(tmp_path):
    root = folder_tree(tmp_path / "raw")
    (root / "b" / "rgb").rename(root / "b" / "frames")
    (root / "b" / "label").rename(root / "b" / "labels")
    reader = FolderReader(root)
    assert reader.skipped()[0].names == ("b", "notes")
    assert [len(skip.names) for skip in unread(reader).values()] == [20]
    for name in ("a", "c"):
        (root / name / "label").rename(root / name / "labels")
        (root / name / "rgb").rename(root / name / "frames")
    with pytest.raises(DataError, match=r"no <sequence>/label.*found a/frames/000000\.png"):
        FolderReader(root).recordings()


def test_exclusion_by_name_and_pattern(tmp_path):
    root = folder_tree(tmp_path / "folder")
    shutil.copytree(root / "b", root / "b2")
    reader = FolderReader(root, exclude=["b*"])
    assert {r.name[0] for r in reader.recordings()} == {"a", "c"}
    reason = "excluded sequence (dataset.datamodule.exclude)"
    assert reader.skipped()[1:] == [Skip(reason, ("b", "b2"), 20)]
    with pytest.raises(DataError, match=r"exclude: 'd' excludes nothing, the names are a, b, b2"):
        FolderReader(root, exclude=["d"]).recordings()

    root = cityscapes_tree(tmp_path / "cityscapes")
    cityscapes_sequence(root, "train", "aachen", 1, range(4))
    reader = CityscapesReader(root, (8, 16), exclude=["aachen_000001"])
    assert {r.name for r in reader.recordings()} == {
        "aachen_000000_000000", "munster_000003_000000"
    }  # fmt: skip
    assert reader.skipped()[0] == Skip(reason, ("aachen_000001",), 4)
    assert unread(reader) == {}
    with pytest.raises(DataError, match="'aachen_000009' excludes nothing"):
        CityscapesReader(root, (8, 16), exclude=["aachen_000009"]).recordings()

    root = densepose_tree(tmp_path / "densepose")
    split = json.loads((root / "split.json").read_text())
    split["train"]["V00001"].append("C00002")
    (root / "split.json").write_text(json.dumps(split))
    reader = DensePoseReader(root, exclude=["V00001/C00002"])
    assert [r.name for r in reader.recordings()] == ["V00001/C00001", "V00002/C00001"]
    assert reader.skipped()[1:] == [
        Skip("excluded clip (dataset.datamodule.exclude)", ("V00001/C00002",), 6)
    ]


def test_excluded_sequences_are_not_opened(tmp_path):
    root = folder_tree(tmp_path / "raw")
    shutil.rmtree(root / "b" / "rgb")
    (root / "b" / "rgb.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="not a readable video"):
        FolderReader(root).recordings()
    assert len(FolderReader(root, exclude=["b"]).recordings()) == 3


def test_what_is_made_and_prepared_below_the_root_is_no_raw_data(tmp_path):
    """`data_root=. work_dir=.`: an earlier model's label maps are not those of the sequences."""
    root = folder_tree(tmp_path / "raw")
    shutil.rmtree(root / "b" / "label")
    (tmp_path / "model").mkdir()
    made = root / "data" / "folder-labels-0123456789ab" / "b" / "label" / "000000.png"
    write_labels(made, (16, 32))
    extractor = LabelExtractor(str(tmp_path / "model"), root / "data")
    assert unread(FolderReader(root, extract_labels=extractor)) == {}


def test_settings_of_trees_that_were_read_before_are_the_same(tmp_path):
    """Unread files are no part of the settings, nor is an unset exclusion."""
    root = folder_tree(tmp_path / "raw")
    before = FolderReader(root).settings()
    write_rgb(root / "b" / "preview.png", (4, 4))
    assert FolderReader(root).settings() == before == FolderReader(root, exclude=()).settings()
    assert "exclude" not in before


def test_numbers_come_from_the_frames_that_are_taken(tmp_path):
    kitti_drive(tmp_path, "2011_09_26_drive_0001", range(3))
    write_rgb(tmp_path / DRIVE / "image_03" / "data" / "0000000001.jpg", (12, 40))
    with pytest.raises(DataError, match="frame 1 is there twice"):
        kitti_reader(tmp_path).recordings()
