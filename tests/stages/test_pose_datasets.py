"""Pose datasets through run.py: from official files to predictions and translated videos."""

from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.data.synthetic.write_pose import VIDEOPOSE3D_FILE, write_densepose, write_human36m
from tests.helpers.commands import ROOT, SMALL, SMALL_MODELS, run_here

CMU = ROOT.parent / "shared" / "data" / "pose" / "cmu_pose2d_17j_30hz.npz"
FEW = ("model.structure.max_steps=1", "dataset.num_workers=0", "dataset.max_eval_clips=1")
HUMAN36M = (
    *SMALL_MODELS, *FEW, "dataset=human36m", "dataset.rules.val_stride=9",
    "dataset.datamodule.train=[S1]", "dataset.datamodule.test=[S9]",
    "dataset.datamodule.cameras=['54138969']",
)  # fmt: skip
WALKS = {"subjects": ("S1", "S9"), "takes": 1, "n_frames": 24, "cameras": ("54138969",),
         "size": (96, 96)}  # fmt: skip


def check_predictions(work_dir: Path, reference: str) -> None:
    """Every predicted clip is a past that shows a person, and part maps that go on."""
    found = PredictionSet(LocalStore(work_dir / "artifacts").fetch(reference).path)
    assert len(found)
    for _, samples in found:
        assert samples.shape == (2, 9, 64, 64)
        assert samples.max() < 25
        assert len(np.unique(samples[:, :3])) > 10


@pytest.fixture(scope="module")
def human36m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same walks as official files with videos, and as the community file."""
    root = tmp_path_factory.mktemp("human36m")
    write_human36m(root / "raw", "cdf", videos=True, **WALKS)
    write_human36m(root / "npz", "npz", **WALKS)
    (root / "npz" / VIDEOPOSE3D_FILE).rename(root / "raw" / VIDEOPOSE3D_FILE)
    return root


def test_both_kinds_of_joint_files_train_and_predict(human36m: Path) -> None:
    """As a sweep over them: one process, two runs."""
    joints = f"dataset.datamodule.joints=null,{VIDEOPOSE3D_FILE}"
    run_here("-m", *HUMAN36M, f"data_root={human36m / 'raw'}", "stage=structure", joints,
             "sweep.metric=train/loss", work_dir=human36m)  # fmt: skip
    check_predictions(human36m, "structure-human36m:v0")
    check_predictions(human36m, "structure-human36m:v1")


def test_videos_serve_the_image_stage(human36m: Path) -> None:
    run_here(*HUMAN36M, f"data_root={human36m / 'raw'}", "stage=image", "predict=false",
             "model.image.max_steps=1", work_dir=human36m)  # fmt: skip
    assert LocalStore(human36m / "artifacts").fetch("image-human36m-checkpoint").path.is_dir()
    frames = list(human36m.glob("data/human36m-*/64x64/frames/*.npy"))
    assert len(frames) == 2
    assert all(np.load(path).std() > 10 for path in frames)


def test_densepose_pictures_train_and_predict(tmp_path: Path) -> None:
    write_densepose(tmp_path / "raw", {"train": 1, "test": 1}, n_frames=24, size=(64, 64))
    command = (*SMALL_MODELS, *FEW, "dataset=densepose", f"data_root={tmp_path / 'raw'}")
    run_here(*command, "stage=structure", work_dir=tmp_path)
    check_predictions(tmp_path, "structure-densepose")


def test_walker_world_trains_and_predicts(tmp_path: Path) -> None:
    run_here(*SMALL, *FEW, "dataset=walker", "stage=structure", work_dir=tmp_path)
    check_predictions(tmp_path, "structure-walker")


@pytest.mark.skipif(not CMU.is_file(), reason=f"no real motions: {CMU} is not there")
def test_real_motions_train_and_predict(tmp_path: Path) -> None:
    with np.load(CMU) as file:  # a part of them: painting all takes seconds
        np.savez(tmp_path / "some.npz", **{key: file[key] for key in file.files[5:60:6]})
    command = (
        *SMALL_MODELS, *FEW, "dataset=human36m", "dataset.rules.val_stride=50", "stage=structure",
        f"data_root={tmp_path}", "dataset.datamodule.joints=some.npz",
        "dataset.datamodule.train=[train]", "dataset.datamodule.test=[test]",
        "dataset.rules.step=1", "model.structure.max_steps=3",
    )  # fmt: skip
    run_here(*command, work_dir=tmp_path)
    check_predictions(tmp_path, "structure-human36m")
