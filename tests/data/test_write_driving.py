"""Synthetic KITTI raw and Cityscapes: written by the driving world, read by the readers."""

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from hvp.clips import ClipId
from hvp.data.images import NEAREST
from hvp.data.readers.cityscapes import CityscapesReader
from hvp.data.readers.kitti import KITTIReader
from hvp.data.store import prepare
from hvp.data.synthetic.write_driving import (
    BORDER,
    KITTI_EXCLUDED_DRIVE,
    RenderSettings,
    main,
    write_cityscapes,
    write_kitti,
)
from hvp.errors import DataError
from tests.helpers.commands import ROOT
from tests.helpers.worlds import drive

WORLD = RenderSettings(size=(32, 64), frame_rate=10.0, seed=3, labels=True)


def kitti_reader(root, **options):
    """The reader with the splits of conf/dataset/kitti.yaml."""
    published = OmegaConf.load(ROOT / "conf/dataset/kitti.yaml").datamodule
    keys = {key: published[key] for key in ("val", "test", "exclude")}
    return KITTIReader(root, **keys, view_size=[32, 40], **options)


def test_kitti_holds_every_published_split_and_a_gap(tmp_path):
    write_kitti(tmp_path / "kitti", WORLD, n_frames=7, n_train=2, gap=2)
    reader = kitti_reader(tmp_path / "kitti")
    found = {r.name[11:]: (r.split, r.n_frames) for r in reader.recordings()}
    assert found == {
        "2011_09_26_drive_0001_sync-000000": ("train", 2),
        "2011_09_26_drive_0001_sync-000004": ("train", 3),
        "2011_09_28_drive_0001_sync": ("train", 7),
        "2011_09_26_drive_0005_sync": ("val", 7),
        "2011_09_26_drive_0070_sync": ("test", 7),
        "2011_09_26_drive_0079_sync": ("test", 7),
        "2011_09_26_drive_0104_sync": ("test", 7),
    }
    excluded = tmp_path / "kitti" / "2011_09_28" / f"{KITTI_EXCLUDED_DRIVE}_sync"
    assert len(list(excluded.glob("image_03/data/??????????.png"))) == 7
    data = prepare(reader, tmp_path / "data", (32, 32), ["labels", "frames"])
    clip = drive(3 * 100_000, 7, (32, 64))
    after_gap = ClipId("2011_09_26/2011_09_26_drive_0001_sync-000004", 0, 1)
    views = [reader.transform(Image.fromarray(m), (32, 32), NEAREST) for m in clip.labels_THW[4:]]
    labels = np.array([np.asarray(view) for view in views])
    np.testing.assert_array_equal(data.read("labels", after_gap, 9), labels)


def test_cityscapes_holds_sequences_dense_labels_and_annotations(tmp_path):
    root = tmp_path / "cityscapes"
    write_cityscapes(root, WORLD, (2, 1, 1))
    names = sorted(p.relative_to(root).as_posix() for p in root.glob("gtFine/*/*/*"))
    assert names == [
        "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
        "gtFine/train/bochum/bochum_000000_000019_gtFine_labelIds.png",
        "gtFine/val/frankfurt/frankfurt_000000_000019_gtFine_labelIds.png",
    ]
    dense = CityscapesReader(root, (32, 64))
    found = {r.name: (r.split, r.n_frames) for r in dense.recordings()}
    assert found == {
        "aachen_000000_000000": ("train", 30),
        "bochum_000000_000000": ("train", 30),
        "frankfurt_000000_000000": ("test", 30),
    }
    people = CityscapesReader(root, (32, 64), gt_fine="all")
    clip = ClipId("frankfurt_000000_000000", 0, 1)
    first, second = (
        prepare(reader, tmp_path / "data", (32, 64), ["labels"]).read("labels", clip, 30)
        for reader in (dense, people)
    )
    np.testing.assert_array_equal(np.delete(first, 19, 0), np.delete(second, 19, 0))
    inside = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    np.testing.assert_array_equal(first[19][inside], second[19][inside])
    assert (second[19][:BORDER] == 255).all()
    rgb = Image.open(root / "leftImg8bit_sequence/test/berlin/berlin_000000_000000_leftImg8bit.png")
    assert (rgb.size, rgb.mode) == ((64, 32), "RGB")


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr("hvp.data.synthetic.write_driving.save_labels", full)
    with pytest.raises(OSError, match="no space"):
        write_kitti(tmp_path / "kitti", WORLD, n_frames=2, n_train=1)
    assert not list(tmp_path.iterdir())


def test_wrong_requests_are_named(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="there: exists already"):
        write_kitti(tmp_path / "there", WORLD, n_frames=2, n_train=1)
    for n_frames, n_train, gap in ((0, 1, 0), (4, 1, 3), (4, 6, 0), (4, 0, 0)):
        with pytest.raises(DataError):
            write_kitti(tmp_path / "new", WORLD, n_frames, n_train, gap)
    with pytest.raises(DataError, match="three counts"):
        write_cityscapes(tmp_path / "new", WORLD, (0, 0, 0))
    with pytest.raises(SystemExit, match=r"error: .*at least 32x32"):
        main(["kitti", str(tmp_path / "new"), "--size", "16", "16"])


def test_command_line(tmp_path, capsys):
    options = ["--size", "32", "64", "--frames", "2", "--train-drives", "1", "--no-labels"]
    main(["kitti", str(tmp_path / "k"), *options])
    assert f"python run.py dataset=kitti data_root={tmp_path / 'k'}" in capsys.readouterr().out
    assert len(list((tmp_path / "k").rglob("image_03/data/*.png"))) == 6 * 2
    assert not list((tmp_path / "k").rglob("color_mask*"))
    with pytest.raises(SystemExit):
        main(["cityscapes", "--help"])
    assert "--sequences TRAIN VAL TEST" in capsys.readouterr().out
