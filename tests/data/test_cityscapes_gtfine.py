"""Cityscapes gtFine annotations instead of dense label maps."""

import numpy as np
import pytest
from PIL import Image

from hvp.clips import ClipId
from hvp.data.readers.cityscapes import CityscapesReader
from hvp.data.store import prepare
from hvp.errors import ConfigError, DataError
from tests.helpers.raw_trees import cityscapes_sequence
from tests.helpers.small_reader import write_labels, write_rgb

# The official table, in words: label id -> class name of a train id.
OFFICIAL = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole",
    19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
    33: "bicycle",
}  # fmt: skip


def annotate(root, split, city, sequence, number, ids):
    path = (
        root / "gtFine" / split / city / f"{city}_{sequence:06d}_{number:06d}_gtFine_labelIds.png"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(ids, np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """Dense maps of one class (the frame's number modulo 19) in each upper left corner."""
    root = tmp_path / "cityscapes"
    cityscapes_sequence(root, "train", "aachen", 0, range(30))
    cityscapes_sequence(root, "val", "munster", 3, range(100, 130))
    cityscapes_sequence(root, "test", "bonn", 1, range(30))
    annotate(root, "train", "aachen", 0, 19, np.full((16, 32), 26))
    annotate(root, "val", "munster", 3, 119, np.full((16, 32), 24))
    return root


def corner(data, recording):
    return data.read("labels", ClipId(recording, 0, 1), 30)[:, 0, 0].tolist()


def test_ids_become_train_ids_by_the_official_table(root):
    path = annotate(root, "train", "aachen", 0, 19, [[*range(34), 255]])
    reader = CityscapesReader(root, (8, 16))
    found = np.asarray(reader.decode_labels(path))[0]
    names = reader.label_space.classes
    assert [names[i] if i != 255 else None for i in found] == [OFFICIAL.get(i) for i in range(35)]


@pytest.mark.parametrize(
    ("gt_fine", "train", "test"), [("none", 0, 5), ("test", 0, 11), ("all", 13, 11)]
)
def test_the_annotated_frame_alone_is_replaced_where_asked(root, tmp_path, gt_fine, train, test):
    reader = CityscapesReader(root, (8, 16), gt_fine=gt_fine)
    data = prepare(reader, tmp_path / "data", (4, 8), ["labels", "frames"])
    dense = {"aachen_000000_000000": [n % 19 for n in range(30)],
             "munster_000003_000100": [n % 19 for n in range(100, 130)]}  # fmt: skip
    for name, replaced in (("aachen_000000_000000", train), ("munster_000003_000100", test)):
        expected = dense[name]
        assert expected[19] == (0 if name[0] == "a" else 5)
        assert corner(data, name) == [*expected[:19], replaced, *expected[20:]]


def test_settings_follow_what_is_used(root):
    plain, tested, everywhere = (
        CityscapesReader(root, (8, 16), gt_fine=choice).settings()
        for choice in ("none", "test", "all")
    )
    assert plain != tested != everywhere != plain
    annotate(root, "val", "munster", 3, 119, np.eye(16, 32))
    assert CityscapesReader(root, (8, 16), gt_fine="test").settings() != tested
    assert CityscapesReader(root, (8, 16)).settings() == plain


def test_settings_do_not_name_a_folder_between_the_two_roots(root, tmp_path):
    tree = "leftImg8bit_sequence/val/munster"
    (tmp_path / tree).mkdir(parents=True)
    for file in (root / tree).glob("color_mask_*"):
        file.rename(tmp_path / tree / file.name)
    for file in (root / "leftImg8bit_sequence/train").rglob("*"):
        path = tmp_path / file.relative_to(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.name.startswith("color_mask_"):
            file.rename(path)
    moved = root.with_name("moved")
    before = CityscapesReader(root, (8, 16), labels_root=tmp_path, gt_fine="test").settings()
    root.rename(moved)
    after = CityscapesReader(moved, (8, 16), labels_root=tmp_path, gt_fine="test").settings()
    assert after == before


def test_full_size_annotations_go_with_small_dense_maps(tmp_path):
    root = tmp_path / "cityscapes"
    for split, city in (("train", "aachen"), ("val", "lindau")):
        folder = root / "leftImg8bit_sequence" / split / city
        for number in (18, 19):
            name = f"{city}_000000_{number:06d}_leftImg8bit.png"
            write_labels(folder / f"color_mask_{name}", (256, 512))
            write_rgb(folder / name, (1024, 2048))
    ids = np.full((1024, 2048), 7)
    ids[512:] = 1  # the ego vehicle
    path = annotate(root, "val", "lindau", 0, 19, ids)
    reader = CityscapesReader(root, (256, 512), gt_fine="test")
    data = prepare(reader, tmp_path / "data", (128, 256), ["labels", "frames"])
    labels = data.read("labels", ClipId("lindau_000000_000018", 0, 1), 2)
    assert (labels[1, :64] == 0).all()
    assert (labels[1, 64:] == 255).all()
    assert reader.where(reader.recordings()[1], "labels", 1) == str(path)

    annotate(root, "val", "lindau", 0, 19, np.full((1024, 1024), 7))
    reader = CityscapesReader(root, (256, 512), gt_fine="test")
    with pytest.raises(DataError, match="RGB is 1024x2048 but its label map is 1024x1024"):
        prepare(reader, tmp_path / "data", (128, 256), ["labels", "frames"])


def test_unknown_ids_are_named_with_their_file(root, tmp_path):
    annotate(root, "val", "munster", 3, 119, np.full((16, 32), 34))
    reader = CityscapesReader(root, (8, 16), gt_fine="test")
    with pytest.raises(DataError, match=r"munster_000003_000119_gtFine_labelIds\.png: .*\[34\]"):
        prepare(reader, tmp_path / "data", (4, 8), ["labels"])


def test_annotations_that_cannot_be_used_are_errors(root):
    with pytest.raises(ConfigError, match="gt_fine=fine: expected one of none, test, all"):
        CityscapesReader(root, (8, 16), gt_fine="fine")
    with pytest.raises(ConfigError, match="evaluate_on=train"):
        CityscapesReader(root, (8, 16), evaluate_on="train")
    with pytest.raises(ConfigError, match="gtFine of the test cities is blank"):
        CityscapesReader(root, (8, 16), evaluate_on="test", gt_fine="test")
    for file in root.glob("gtFine/val/*/*"):
        file.unlink()
    with pytest.raises(DataError, match=r"no \*_gtFine_labelIds\.png .* split 'test'"):
        CityscapesReader(root, (8, 16), gt_fine="all").recordings()


def test_touching_sequences_stay_sequences_of_thirty_frames(tmp_path):
    cityscapes_sequence(tmp_path, "train", "hamburg", 0, range(10, 70))
    cityscapes_sequence(tmp_path, "val", "munster", 0, range(30))
    found = {r.name: r.n_frames for r in CityscapesReader(tmp_path, (8, 16)).recordings()}
    assert found == {
        "hamburg_000000_000010": 30, "hamburg_000000_000040": 30, "munster_000000_000000": 30,
    }  # fmt: skip
