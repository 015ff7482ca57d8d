"""Several devices: one composed config, one output directory, N processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.videos import VideoSet
from tests.artifacts.wandb_jobs import environment
from tests.stages.commands import ROOT, SMALL, run_hvp, run_well
from tests.wandb_server import WandbServer

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


LOGGED = {"structure": ("train/loss", "train/nll", "train/kl"), "image": ("train/generator",
          "train/discriminators", "train/G_Warp")}  # fmt: skip


def logged(work_dir: Path, stage: str, column: str) -> list[float]:
    (path,) = work_dir.glob(f"outputs/{stage}-*/csv/version_0/metrics.csv")
    with path.open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


TOLERANCE = {"structure": 1e-6, "image": 2e-3}


@pytest.mark.parametrize("stage", LOGGED)
def test_two_ranks_learn_what_one_learns_with_twice_the_batch(stage: str, tmp_path: Path) -> None:
    # In float64, so that a wrong average cannot hide behind rounding errors; what the adversarial
    # game makes even of those (4e-4 after six batches) sets the tolerance of its later steps.
    arguments = (
        *SMALL, f"stage={stage}", "predict=false", "trainer.precision=64-true",
        "trainer.log_every_n_steps=1", "callbacks.progress=null", "trainer.limit_val_batches=0",
        "model.structure.batch_size=4", "model.image.batch_size=4",
        "model.structure.max_steps=5", "model.image.max_steps=12",
    )  # fmt: skip
    run_well(*arguments, work_dir=tmp_path / "one")
    run_well(*arguments, *TWO_RANKS, work_dir=tmp_path / "two")
    for column in LOGGED[stage]:
        one, two = (logged(tmp_path / name, stage, column) for name in ("one", "two"))
        assert len(set(one)) >= 3
        np.testing.assert_allclose(two[:2], one[:2], rtol=1e-6, err_msg=column)
        np.testing.assert_allclose(two, one, rtol=TOLERANCE[stage], err_msg=column)
    if stage == "image":
        return  # Adam scales up the rounding errors that are the gradients of biases before a norm
    name = f"{stage}-synthetic-checkpoint"
    one, two = (
        torch.load(
            LocalStore(tmp_path / n / "artifacts").fetch(name).path / "last.ckpt", weights_only=True
        )["state_dict"]
        for n in ("one", "two")
    )
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-5, atol=1e-7, msg=key)


def test_sweep_runs_each_value_on_two_ranks_with_a_folder_and_a_wandb_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (
        *SMALL, *TWO_RANKS, "stage=structure", "predict=false", "sweep.metric=train/loss",
        "trainer.log_every_n_steps=1", "logger=[csv,wandb]",
    )  # fmt: skip
    with WandbServer(tmp_path / "server") as server:
        for name, value in environment(server).items():
            monkeypatch.setenv(name, value)
        run_well("-m", "seed=1,2", *arguments, work_dir=tmp_path)
        one, two = jobs = [run for run in server.runs.values() if run["jobType"] == "structure"]
        assert one["group"] == two["group"] == next(tmp_path.glob("outputs/sweep-*")).name
        assert [json.loads(run["config"])["seed"]["value"] for run in jobs] == [1, 2]
        for run in jobs:
            steps = [row for row in map(json.loads, run["history"]) if "train/loss" in row]
            assert len(steps) == 3  # not once per rank
        checkpoints = server.projects["emu", "hvp"]["collections"]["structure-synthetic-checkpoint"]
        assert len(checkpoints["versions"]) == 2
        assert len(list(tmp_path.glob("outputs/**/csv/version_0/metrics.csv"))) == 2
        n_runs = len(server.runs)
        run_well("-m", "seed=1,2", *arguments, work_dir=tmp_path)  # nothing is done again
        assert len(checkpoints["versions"]) == 2
        assert len(server.runs) == n_runs
        assert len(list(tmp_path.glob("outputs/**/csv/version_*"))) == 2
        assert not server.missing
        assert not server.unhandled()


def test_a_setting_refused_by_a_rank_is_said_in_one_sentence(tmp_path: Path) -> None:
    done = run_hvp(*SMALL, *TWO_RANKS, "stage=structure", "model.structure.batch_size=3",
                   work_dir=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert "batch_size=3" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_rank_that_failed_first_is_named_and_its_traceback_shown_first(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import os\n"
        "from pytorch_lightning.callbacks import Callback\n"
        "class FailsOnRankOne(Callback):\n"
        "    def on_train_batch_end(self, trainer, *_):\n"
        "        if trainer.global_rank == 1 and trainer.global_step == 2:\n"
        "            raise ValueError('the second rank is out of paper')\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        done = run_hvp(
            *SMALL, *TWO_RANKS, "stage=structure", "predict=false",
            "+callbacks.broken={_target_: broken.FailsOnRankOne}", work_dir=tmp_path,
        )  # fmt: skip
    assert done.returncode == 1
    first = done.stderr[done.stderr.index("Traceback") :]
    assert "the second rank is out of paper" in first.split("Traceback")[1]
    assert "error: rank 1 of stage structure failed: ValueError: the second rank" in done.stderr


def test_ranks_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    arguments = (
        *SMALL, *TWO_RANKS, "stage=structure", "predict=false", f"work_dir={tmp_path}",
        "model.structure.max_steps=100000", "callbacks.checkpoint.every_n_batches=1",
    )  # fmt: skip
    command = [sys.executable, "run.py", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    training = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)
    try:
        wait_until(lambda: list(tmp_path.glob("outputs/*/checkpoints/batch-*.ckpt")))
        ranks = living("--ppid", str(training.pid))
        assert len(ranks) == 2
        training.send_signal(signal.SIGKILL)
        training.wait()
        wait_until(lambda: not living("-p", ",".join(ranks)))
    finally:
        training.kill()


def living(*selection: str) -> list[str]:
    """Ids of the processes that `ps` selects, without those that only wait to be collected."""
    listed = subprocess.run(["ps", *selection, "-o", "pid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [pid for pid, state in rows if not state.startswith("Z")]


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
