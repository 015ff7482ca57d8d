"""KITTI, Cityscapes and own videos, written by the driving world, through run.py as a user would:
prepare, one training step, prediction; with label maps given and with label maps made.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.data.synthetic.write_driving import RenderSettings, write_cityscapes, write_kitti
from hvp.media import write_mp4
from tests.helpers.commands import SMALL_MODELS, run_here
from tests.helpers.small_segformer import save_segformer
from tests.helpers.worlds import drive

ONE_STEP = ("model.structure.max_steps=1", "dataset.num_workers=0", "dataset.rules.n_eval=4")
TINY = (*SMALL_MODELS, *ONE_STEP, "stage=structure", "model.structure.batch_size=1")
KITTI = ("dataset=kitti", "dataset.datamodule.view_size=[64,80]")
CITYSCAPES = (
    "dataset=cityscapes",
    "dataset.size=[64,64]",
    "dataset.datamodule.stored_size=[64,128]",
)


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw") / "kitti"
    write_kitti(root, RenderSettings((64, 200), 10.0, 0, labels=True), n_frames=14, n_train=1)
    return root


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw") / "cityscapes"
    write_cityscapes(root, RenderSettings((64, 128), 17.0, 0, labels=True), (1, 1, 0))
    return root


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = save_segformer(tmp_path_factory.mktemp("models") / "segformer")
    return f"dataset.extract_labels.model={folder}"


def without_labels(root: Path, copy: Path) -> Path:
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("color_mask_*"))
    return copy


def predicted(work_dir: Path, dataset: str) -> PredictionSet:
    store = LocalStore(work_dir / "artifacts")
    return PredictionSet(store.fetch(f"structure-{dataset}").path)


def prepared_settings(work_dir: Path, dataset: str) -> dict:
    (manifest,) = work_dir.glob(f"data/{dataset}-*/*/labels/manifest.json")
    settings: dict = json.loads(manifest.read_text())["settings"]
    return settings


def test_kitti_with_label_maps_beside_the_pictures(kitti: Path, tmp_path: Path) -> None:
    run_here(*TINY, *KITTI, f"data_root={kitti}", work_dir=tmp_path)
    clips = predicted(tmp_path, "kitti").clips
    assert {clip.clip.recording.split("/")[1] for clip in clips} <= {
        f"2011_09_26_drive_{number}_sync" for number in ("0070", "0079", "0104")
    }
    assert not list(tmp_path.glob("data/kitti-labels-*"))


def test_kitti_with_label_maps_made(
    kitti: Path, segformer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = without_labels(kitti, tmp_path / "raw")
    arguments = (*KITTI, segformer, f"data_root={raw}")
    run_here(*TINY, *arguments, work_dir=tmp_path)
    assert "70 frames have no label map" in capsys.readouterr().out
    assert len(predicted(tmp_path, "kitti")) == 2
    (tree,) = tmp_path.glob("data/kitti-labels-*")
    made = {p: p.stat().st_mtime_ns for p in tree.rglob("color_mask_*.png")}
    assert len(made) == 5 * 14  # not those of the excluded drive

    # Stage prepare packs RGB as well; the label maps are there already.
    run_here(*SMALL_MODELS, *arguments, "stage=prepare", work_dir=tmp_path)
    assert "have no label map" not in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in tree.rglob("color_mask_*.png")} == made

    by_hand = (*KITTI, f"dataset.datamodule.labels_root={tree}", "dataset.extract_labels=null")
    other = tmp_path / "by_hand"
    run_here(*SMALL_MODELS, *by_hand, f"data_root={raw}", "stage=prepare", work_dir=other)
    arrays = [sorted(w.glob("data/*/64x64/labels/*.npy")) for w in (tmp_path, other)]
    assert len(arrays[0]) == 5
    for mine, theirs in zip(*arrays, strict=True):
        assert np.array_equal(np.load(mine), np.load(theirs))


def test_cityscapes_measured_against_annotations(cityscapes: Path, tmp_path: Path) -> None:
    arguments = (*TINY, *CITYSCAPES, "dataset.datamodule.gt_fine=test", f"data_root={cityscapes}")
    run_here(*arguments, work_dir=tmp_path)
    (clip,) = predicted(tmp_path, "cityscapes").clips
    assert clip.clip == ("frankfurt_000000_000000", 1, 3)
    (array,) = tmp_path.glob("data/cityscapes-*/64x64/labels/frankfurt*.npy")
    ignored = [t for t, labels in enumerate(np.load(array)) if (labels == 255).any()]
    assert ignored == [19]
    assert "extracted" not in prepared_settings(tmp_path, "cityscapes")


def test_cityscapes_with_label_maps_made(cityscapes: Path, segformer: str, tmp_path: Path) -> None:
    raw = without_labels(cityscapes, tmp_path / "raw")
    run_here(*TINY, *CITYSCAPES, segformer, f"data_root={raw}", work_dir=tmp_path)
    assert len(predicted(tmp_path, "cityscapes")) == 1
    (tree,) = tmp_path.glob("data/cityscapes-labels-*")
    names = sorted(p.name for p in tree.glob("leftImg8bit_sequence/val/frankfurt/*.png"))
    assert names[19] == "color_mask_frankfurt_000000_000019_leftImg8bit.png"
    assert len(names) == 30
    assert len(prepared_settings(tmp_path, "cityscapes")["extracted"]["recordings"]) == 2


def test_own_videos_without_label_maps(
    segformer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    for number, path in enumerate(("a.mp4", "b/rgb.mp4", "c.mp4")):
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        write_mp4(raw / path, drive(number, 30, (64, 96)).frames_THW3, fps=10)
    arguments = ("dataset=folder", segformer, f"data_root={raw}")
    run_here(*TINY, *arguments, work_dir=tmp_path)
    assert "90 frames have no label map" in capsys.readouterr().out
    assert {clip.clip.recording for clip in predicted(tmp_path, "folder").clips} == {"c"}
    (label,) = tmp_path.glob("data/folder-labels-*/b/label/000007.png")
    assert Image.open(label).size == (96, 64)


def test_what_is_missing_is_said_in_one_sentence(kitti: Path, tmp_path: Path) -> None:
    raw = without_labels(kitti, tmp_path / "raw")
    nowhere = tmp_path / "nowhere"
    for overrides, message in (
        ((f"data_root={raw}", "dataset.extract_labels=null"), r"have them made \(dataset\.extract"),
        ((f"data_root={raw}", f"dataset.extract_labels.model={nowhere}"), "model=.*no such dir"),
        ((f"data_root={nowhere}",), ".*nowhere: does not exist"),
    ):
        with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
            run_here("stage=prepare", *KITTI, *overrides, work_dir=tmp_path)
