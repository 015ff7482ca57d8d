"""Several devices: one composed config, one output directory, N processes."""

from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.videos import VideoSet
from tests.stages.commands import SMALL, run_hvp, run_well

TWO_RANKS = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages trained and predicted by two ranks."""
    path = tmp_path_factory.mktemp("ranks")
    run_well(*SMALL, *TWO_RANKS, "stage=structure", work_dir=path)
    run_well(*SMALL, *TWO_RANKS, "stage=image", work_dir=path)
    return path


def test_two_ranks_leave_one_of_everything(work_dir: Path) -> None:
    store = LocalStore(work_dir / "artifacts")
    for name in ("structure-synthetic-checkpoint", "structure-synthetic", "image-synthetic"):
        assert store.fetch(name).version == "v0"
    assert len(list((work_dir / "outputs").glob("structure-*"))) == 1
    assert len(VideoSet(store.fetch("image-synthetic").path)) == 2 * 3


def test_two_ranks_predict_what_one_predicts(work_dir: Path) -> None:
    predict = ("stage=structure", "fit=false", "force=true")
    checkpoint = "checkpoint=structure-synthetic-checkpoint:v0"
    run_well(*SMALL, *predict, checkpoint, "seed=1", work_dir=work_dir)
    store = LocalStore(work_dir / "artifacts")
    two = PredictionSet(store.fetch("structure-synthetic:v0").path)
    one = PredictionSet(store.fetch("structure-synthetic:latest").path)
    for mine, theirs in zip(two, one, strict=True):
        assert mine[0] == theirs[0]
        assert np.array_equal(mine[1], theirs[1])


def test_a_failing_rank_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    done = run_hvp(*SMALL, *TWO_RANKS, "stage=structure", "model.structure.batch_size=3",
                   work_dir=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert "batch_size=3" in done.stderr
