"""DDP and FSDP launcher: one composed config, one output directory, N ranks."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.videos import VideoSet
from hvp.files import write_text
from hvp.launch import ranks
from tests.artifacts.wandb_jobs import environment
from tests.helpers import forked
from tests.helpers.commands import ROOT, SMALL, run_hvp, run_well
from tests.helpers.forked import train
from tests.wandb_server import WandbServer

TWO_RANKS = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
SHARDED = ("trainer=fsdp", *TWO_RANKS[1:])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    """A W&B server for the sweep."""
    with WandbServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory, server: WandbServer) -> Path:
    """A sweep of stage one, then stage two of its first job, trained and predicted on two ranks."""
    path = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(server).items():
            patch.setenv(name, value)
        run_well("-m", "seed=1,2", *SMALL, *TWO_RANKS, "stage=structure", "sweep.metric=train/loss",
                 "trainer.log_every_n_steps=1", "logger=[csv,wandb]", "artifacts=local",
                 work_dir=path)  # fmt: skip
    train(path, *SMALL, *TWO_RANKS, "stage=image", "predictions=structure-synthetic:v0", n_ranks=2)
    return path


def test_sweep_runs_each_value_on_two_ranks_in_a_folder_of_its_own(work_dir: Path) -> None:
    store = LocalStore(work_dir / "artifacts")
    versions = [store.fetch(f"structure-synthetic-checkpoint:v{i}") for i in range(2)]
    assert [v.metadata["settings"]["seed"] for v in versions] == [1, 2]
    assert len(list(work_dir.glob("outputs/*/?/csv/version_*/metrics.csv"))) == 2
    logs = [path.read_text() for path in sorted(work_dir.glob("outputs/*/?/run.log"))]
    assert [log.count("began ") for log in logs] == [1, 1]  # of rank zero and its launcher
    assert [f"published structure-synthetic:v{i}" in log for i, log in enumerate(logs)] == [
        True
    ] * 2


def test_sweep_on_two_ranks_has_one_wandb_run_per_job_in_one_group(
    work_dir: Path, server: WandbServer
) -> None:
    jobs = [run for run in server.runs.values() if run["jobType"] == "structure"]
    assert len(jobs) == 2
    assert {run["group"] for run in jobs} == {next(work_dir.glob("outputs/sweep-*")).name}
    assert [json.loads(run["config"])["seed"]["value"] for run in jobs] == [1, 2]
    for run in jobs:
        steps = [row for row in map(json.loads, run["history"]) if "train/loss" in row]
        assert len(steps) == 3  # not once per rank
    assert not server.missing
    assert not server.unhandled()


def test_two_ranks_leave_one_of_everything(work_dir: Path) -> None:
    versions = {path.name: len(list(path.glob("v*"))) for path in work_dir.glob("artifacts/[!.]*")}
    assert versions == {
        "clips-synthetic": 1,
        "structure-synthetic-checkpoint": 2,
        "structure-synthetic": 2,
        "image-synthetic-checkpoint": 1,
        "image-synthetic": 1,
    }
    store = LocalStore(work_dir / "artifacts")
    assert len(PredictionSet(store.fetch("structure-synthetic").path)) == 2
    assert len(VideoSet(store.fetch("image-synthetic").path)) == 2 * 3


def test_scores_of_validation_samples_reach_all_ranks(tmp_path: Path) -> None:
    """The policy of each rank asks for the metric, and fails without it."""
    train(
        tmp_path, *SMALL, *TWO_RANKS, "stage=structure", "predict=false",
        "trainer.val_check_interval=1", "callbacks.checkpoint.monitor=val/miou",
        "callbacks.checkpoint.mode=max", n_ranks=2,
    )  # fmt: skip
    artifact = LocalStore(tmp_path / "artifacts").fetch("structure-synthetic-checkpoint")
    assert "val/miou" in artifact.metadata["metrics"]


@pytest.mark.parametrize(("stage", "version"), [("structure", "v1"), ("image", "v0")])
def test_two_ranks_predict_what_one_predicts(stage: str, version: str, work_dir: Path) -> None:
    """Bit for bit: the store gives the same version only to the same bytes."""
    printed = train(work_dir, *SMALL, f"stage={stage}", "fit=false", "force=true",
                    f"seed={1 if stage == 'image' else 2}", "predictions=structure-synthetic:v0",
                    f"checkpoint={stage}-synthetic-checkpoint:{version}")  # fmt: skip
    assert f"published {stage}-synthetic:{version}" in printed


LOGGED = {
    "structure": ("train/loss", "train/nll", "train/kl", "val/loss"),
    "image": ("train/generator", "train/discriminators", "train/G_Warp", "val/l1"),
}


def logged(work_dir: Path, column: str) -> list[float]:
    with (work_dir / "output/csv/version_0/metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


@pytest.mark.parametrize(
    ("stage", "many", "precision", "tolerance"),
    [
        # In float64, so that a wrong average cannot hide behind rounding errors.
        pytest.param("structure", TWO_RANKS, "64-true", 1e-9, id="structure"),
        # Small learning rate: at the usual one Adam and GAN training amplify rounding errors a
        # hundredfold per batch (in one process too).
        pytest.param("image", TWO_RANKS, "64-true", 1e-9, id="image"),
        pytest.param("structure", SHARDED, "32-true", 1e-5, id="structure-sharded"),
    ],
)
def test_two_ranks_learn_what_one_learns_with_twice_the_batch(
    stage: str, many: tuple[str, ...], precision: str, tolerance: float, tmp_path: Path
) -> None:
    """And validate on the same clips: three, an uneven split over two ranks."""
    arguments = (
        *SMALL, f"stage={stage}", "predict=false", f"trainer.precision={precision}",
        "trainer.log_every_n_steps=1", "callbacks.progress=null", "trainer.limit_val_batches=3",
        "trainer.val_check_interval=2", "model.structure.batch_size=4", "model.image.batch_size=4",
        "model.structure.max_steps=5", "model.image.max_steps=8", "model.image.eval_batch_size=1",
        "model.image.module.lr=1e-5",
    )  # fmt: skip
    if stage == "image":
        arguments += (
            "dataset.size=[32,32]", "callbacks.samples=null", "model.image.ema_decay=0",
        )  # fmt: skip
    train(tmp_path / "one", *arguments)
    train(tmp_path / "two", *arguments, *many, n_ranks=2)
    for column in LOGGED[stage]:
        one, two = (logged(tmp_path / name, column) for name in ("one", "two"))
        assert len(set(one)) >= 2
        np.testing.assert_allclose(two, one, rtol=tolerance, err_msg=column)
    if stage == "image" or precision == "32-true":
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


def test_what_a_rank_refuses_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ranks" / "config.yaml"
    config = forked.compose_run(
        tmp_path, *SMALL, "stage=structure", "model.structure.batch_size=99"
    )
    write_text(path, OmegaConf.to_yaml(config, resolve=True))
    rank = forked.CONTEXT.Process(target=forked.rank_of_launcher, args=(path,))
    rank.start()
    rank.join(forked.SECONDS)
    assert rank.exitcode == 1
    failed = ranks._first_failure(path.parent)
    assert failed is not None
    assert failed[0] == 0
    assert "batch_size=99" in failed[1]
    assert capsys.readouterr().err == ""


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
    """Ids of the processes that `ps` selects, without zombies."""
    listed = subprocess.run(["ps", *selection, "-o", "pid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [pid for pid, state in rows if not state.startswith("Z")]


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
