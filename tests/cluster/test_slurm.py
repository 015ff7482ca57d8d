"""SLURM jobs on a real cluster: sweeps, several nodes, preemption, time limit, dependencies."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from tests.cluster.slurm import Cluster, missing
from tests.helpers.commands import ROOT, SMALL
from tests.helpers.forked import train

pytestmark = pytest.mark.slurm

MEET_HERE = "hydra.launcher.setup=['export MASTER_ADDR=127.0.0.1']"  # all nodes are this machine
CPU_JOBS = ("hydra/launcher=slurm_cpu", MEET_HERE, "callbacks.progress=null")
TWO_RANKS = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
STRUCTURE = (
    *SMALL, "stage=structure", "predict=false", "sweep.metric=train/loss",
    "trainer.log_every_n_steps=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of two CPUs each."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    running = Cluster(tmp_path_factory.mktemp("slurm"), n_nodes=2, cpus=2)
    yield running
    running.stop()


def run(cluster: Cluster, work_dir: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "run.py", *overrides, f"work_dir={work_dir}"],
        cwd=ROOT, env=os.environ | cluster.environment | {"COLUMNS": "200"},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip


def jobs_of(printed: str) -> dict[str, str]:
    """Stage and job id of the jobs that a pipeline has submitted."""
    rows = (line.split(": job ") for line in printed.splitlines() if ": job " in line)
    return {stage: rest.split(",")[0].split(";")[0] for stage, rest in rows}


@pytest.mark.slow
def test_sweep_of_two_values_with_two_ranks_each(cluster: Cluster, tmp_path: Path) -> None:
    done = run(cluster, tmp_path, "-m", "seed=1,2", *STRUCTURE, *TWO_RANKS, *CPU_JOBS)
    assert done.returncode == 0, done.stdout + done.stderr
    store = LocalStore(tmp_path / "artifacts")
    versions = [store.fetch(f"structure-synthetic-checkpoint:v{i}") for i in range(2)]
    assert sorted(v.metadata["settings"]["seed"] for v in versions) == [1, 2]
    for version in versions:
        saved = torch.load(version.path / "last.ckpt", weights_only=True)
        assert len(saved["exact_resume"]["random_states"]) == 2


@pytest.mark.slow
def test_job_of_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    done = run(cluster, tmp_path, "-m", "seed=1", *STRUCTURE, *TWO_RANKS, *CPU_JOBS,
               "trainer.num_nodes=2", "model.structure.batch_size=4")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    version = LocalStore(tmp_path / "artifacts").fetch("structure-synthetic-checkpoint")
    saved = torch.load(version.path / "last.ckpt", weights_only=True)
    assert len(saved["exact_resume"]["random_states"]) == 4


@pytest.fixture
def waiting(cluster: Cluster) -> Iterator[None]:
    """No job starts: it might end, and with it another's dependency on it, before one can look."""
    cluster.call("scontrol", "update", "PartitionName=low", "State=DOWN")
    yield
    cluster.call("scontrol", "update", "PartitionName=low", "State=UP")


@pytest.mark.usefixtures("waiting")
def test_pipeline_submits_jobs_that_wait_for_each_other(cluster: Cluster, tmp_path: Path) -> None:
    done = run(cluster, tmp_path, *SMALL, *CPU_JOBS)
    assert done.returncode == 0, done.stderr
    jobs = jobs_of(done.stdout)
    assert list(jobs) == ["prepare", "structure", "image", "evaluate"]
    ids = list(jobs.values())
    for job, after in zip(ids[1:], ids, strict=False):
        assert f"afterok:{after}" in cluster.call("scontrol", "-o", "show", "job", job)
    for job in ids:
        cluster.call("scancel", job)
    cluster.wait(lambda: not cluster.call("squeue", "-h"))


@pytest.mark.slow
def test_pipeline_of_jobs_goes_the_whole_road(cluster: Cluster, tmp_path: Path) -> None:
    jobs = jobs_of(run(cluster, tmp_path, *SMALL, *TWO_RANKS, *CPU_JOBS).stdout)
    last = jobs["evaluate"]
    cluster.wait(lambda: cluster.state(last) not in ("PENDING", "RUNNING", "COMPLETING"), 400)
    logs = "".join(path.read_text() for path in tmp_path.glob("outputs/*/slurm/*.log"))
    assert {stage: cluster.state(job) for stage, job in jobs.items()} == dict.fromkeys(
        jobs, "COMPLETED"
    ), logs
    store = LocalStore(tmp_path / "artifacts")
    lineage = {a.name for a in store.lineage("evaluation-synthetic")}
    assert {"structure-synthetic", "image-synthetic"} <= lineage


LONGER = (*STRUCTURE, *TWO_RANKS, "model.structure.max_steps=10",
          "callbacks.checkpoint.every_n_batches=1000")  # fmt: skip


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Weights of an uninterrupted training."""
    work_dir = tmp_path_factory.mktemp("straight")
    train(work_dir, *LONGER, n_ranks=2)
    return weights(work_dir)


def weights(work_dir: Path) -> dict[str, Tensor]:
    path = LocalStore(work_dir / "artifacts").fetch("structure-synthetic-checkpoint").path
    return torch.load(path / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize("end", ["Preempted", "TimedOut"])
def test_job_signalled_to_end_goes_on_from_the_very_step(
    cluster: Cluster, straight: dict[str, Tensor], end: str, tmp_path: Path
) -> None:
    ending = f"+callbacks.end={{_target_: tests.helpers.slurm_signals.{end}, in_batch: 4}}"
    done = run(cluster, tmp_path, "-m", "seed=1", *LONGER, *CPU_JOBS, ending,
               "logger=[csv,wandb]", "wandb.mode=offline")  # fmt: skip
    printed = "".join(path.read_text() for path in tmp_path.glob("outputs/slurm/**/*.out"))
    assert done.returncode == 0, done.stdout + done.stderr + printed
    assert re.search(r"signalled to end: saved .*batch-000000005\.ckpt, requeueing", printed)
    assert re.search(r"going on from .*batch-000000005\.ckpt", printed)
    (record,) = tmp_path.glob("outputs/*/0/wandb/run.json")  # one output directory
    known = json.loads(record.read_text())
    first, second = known["segments"]
    assert first["dir"].endswith(known["id"])
    assert second["dir"].endswith(known["id"])
    expected, got = straight, weights(tmp_path)
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []


@pytest.mark.slow
def test_job_signalled_to_end_while_it_predicts_goes_on_with_the_next_clip(
    cluster: Cluster, tmp_path: Path
) -> None:
    predicting = (*LONGER, "predict=true", "dataset.max_eval_clips=4")
    ending = ("+callbacks.end={_target_: tests.helpers.slurm_signals.TimedOut, in_batch: 0, "
              "predicting: true}")  # fmt: skip
    done = run(cluster, tmp_path / "job", "-m", "seed=1", *predicting, *CPU_JOBS, ending)
    printed = "".join(path.read_text() for path in tmp_path.glob("job/outputs/slurm/**/*.out"))
    assert done.returncode == 0, done.stdout + done.stderr + printed
    assert "signalled to end: requeueing" in printed
    assert "trained for these settings" in printed
    train(tmp_path / "straight", *predicting, n_ranks=2)
    clips = [
        PredictionSet(LocalStore(path / "artifacts").fetch("structure-synthetic").path)
        for path in (tmp_path / "job", tmp_path / "straight")
    ]
    assert len(clips[0]) == 4
    for (mine, samples), (theirs, expected) in zip(*clips, strict=True):
        assert mine == theirs
        assert np.array_equal(samples, expected)
