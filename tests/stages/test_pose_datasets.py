"""Pose datasets through run.py: from official files to predictions and translated videos."""

from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.data.synthetic.write_pose import COMMUNITY_FILE, write_densepose, write_human36m
from tests.stages.commands import ROOT, SMALL, SMALL_MODELS, run_well

CMU = ROOT.parent / "shared" / "data" / "pose" / "cmu_pose2d_17j_30hz.npz"
FEW = ("model.structure.max_steps=1", "dataset.num_workers=0", "dataset.max_eval_clips=1")
HUMAN36M = (
    *SMALL_MODELS, *FEW, "dataset=human36m", "dataset.rules.val_stride=9",
    "dataset.reader.train=[S1]", "dataset.reader.test=[S9]", "dataset.reader.cameras=['54138969']",
)  # fmt: skip
WALKS = {"subjects": ("S1", "S9"), "takes": 1, "n_frames": 24, "cameras": ("54138969",),
         "size": (96, 96)}  # fmt: skip


def predictions_of(work_dir: Path, name: str) -> list[np.ndarray]:
    """Samples (S, T, H, W) of every predicted clip, checked to be part maps that go on."""
    found = PredictionSet(LocalStore(work_dir / "artifacts").fetch(f"structure-{name}").path)
    samples = [samples for _, samples in found]
    assert samples
    for array in samples:
        assert array.shape == (2, 9, 64, 64)
        assert array.max() < 25
        assert len(np.unique(array[:, :3])) > 10  # the given past shows a person
    return samples


def test_official_files_and_videos_serve_both_stages(tmp_path: Path) -> None:
    write_human36m(tmp_path / "raw", "cdf", videos=True, **WALKS)
    command = (*HUMAN36M, f"data_root={tmp_path / 'raw'}", "dataset.rollout.samples=2")
    run_well(*command, "stage=structure", work_dir=tmp_path)
    predictions_of(tmp_path, "human36m")
    run_well(*command, "stage=image", "model.image.max_steps=1", work_dir=tmp_path)
    store = LocalStore(tmp_path / "artifacts")
    assert list(store.fetch("image-human36m").path.rglob("*.mkv"))


def test_community_file_trains_and_predicts(tmp_path: Path) -> None:
    write_human36m(tmp_path / "raw", "npz", **WALKS)
    command = (
        *HUMAN36M,
        f"data_root={tmp_path / 'raw'}",
        f"dataset.reader.joints={COMMUNITY_FILE}",
    )
    run_well(*command, "stage=structure", work_dir=tmp_path)
    predictions_of(tmp_path, "human36m")


def test_densepose_pictures_train_and_predict(tmp_path: Path) -> None:
    write_densepose(tmp_path / "raw", {"train": 1, "test": 1}, n_frames=24, size=(64, 64))
    command = (*SMALL_MODELS, *FEW, "dataset=densepose", f"data_root={tmp_path / 'raw'}")
    run_well(*command, "stage=structure", work_dir=tmp_path)
    predictions_of(tmp_path, "densepose")


def test_walker_world_trains_and_predicts(tmp_path: Path) -> None:
    run_well(*SMALL, *FEW, "dataset=walker", "stage=structure", work_dir=tmp_path)
    predictions_of(tmp_path, "walker")


@pytest.mark.skipif(not CMU.is_file(), reason=f"no real motions: {CMU} is not there")
def test_real_motions_train_and_predict(tmp_path: Path) -> None:
    with np.load(CMU) as file:  # a part of them: painting all takes seconds
        np.savez(tmp_path / "some.npz", **{key: file[key] for key in file.files[5:60:6]})
    command = (
        *SMALL_MODELS, *FEW, "dataset=human36m", "dataset.rules.val_stride=50", "stage=structure",
        f"data_root={tmp_path}", "dataset.reader.joints=some.npz",
        "dataset.reader.train=[train]", "dataset.reader.test=[test]", "dataset.rules.step=1",
        "model.structure.max_steps=3",
    )  # fmt: skip
    run_well(*command, work_dir=tmp_path)
    predictions_of(tmp_path, "human36m")
