"""SIGTERM and Ctrl-C in every phase: save, say so, exit 143 or 130, never a traceback."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvp.training.checkpoints import latest_intact
from tests.helpers.commands import ROOT, SMALL

TRAINING = (
    *SMALL, "stage=structure", "callbacks.progress=null", "callbacks.samples=null",
    "model.structure.max_steps=100000", "callbacks.checkpoint.every_n_batches=3",
)  # fmt: skip
INT, TERM = signal.SIGINT, signal.SIGTERM


def start(work_dir: Path, *overrides: str) -> subprocess.Popen[str]:
    where = (f"work_dir={work_dir}", f"output_dir={work_dir}/output")
    return subprocess.Popen(
        [sys.executable, "run.py", *overrides, *where],
        cwd=ROOT, env=os.environ | {"COLUMNS": "200"}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def wait_for(pattern: str, work_dir: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list(work_dir.glob(pattern)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.02)


def ended(process: subprocess.Popen[str], status: int) -> str:
    try:
        printed, _ = process.communicate(timeout=100)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == status, printed
    assert "Traceback" not in printed, printed
    return printed


@pytest.mark.parametrize(("number", "status"), [(TERM, 143), (INT, 130)])
def test_a_signalled_training_saves_and_says_so(number: int, status: int, tmp_path: Path) -> None:
    process = start(tmp_path, *TRAINING)
    wait_for("output/checkpoints/batch-*.ckpt", tmp_path, process)
    os.kill(process.pid, number)
    printed = ended(process, status)
    saved = re.search(r"saved .*(batch-\d+\.ckpt); the same command goes on", printed)
    assert saved is not None, printed
    newest = latest_intact(tmp_path / "output")
    assert newest is not None
    assert newest.name == saved[1]
    assert not list(tmp_path.glob("artifacts/structure-*"))  # nothing half-trained is published


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_ctrl_c_before_anything_has_begun(seconds: float, tmp_path: Path) -> None:
    process = start(tmp_path, *TRAINING)
    time.sleep(seconds)
    os.killpg(process.pid, INT)
    assert "stopped by Ctrl-C" in ended(process, 130)


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """While a long validation holds up the end of the batch."""
    process = start(
        tmp_path, *TRAINING, "trainer.val_check_interval=4", "trainer.limit_val_batches=1.0",
        "dataset.rules.val_stride=1", "dataset.datamodule.n_val=60",
    )  # fmt: skip
    wait_for("output/checkpoints/batch-*.ckpt", tmp_path, process)
    time.sleep(0.5)
    os.killpg(process.pid, INT)
    time.sleep(0.8)
    if process.poll() is None:
        os.killpg(process.pid, INT)
    began = time.monotonic()
    ended(process, 130)
    assert time.monotonic() - began < 5


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(TERM, 143), (INT, 130)])
@pytest.mark.parametrize("whole_group", [True, False])
def test_ranks_and_stages_of_a_pipeline_end_with_it(
    number: int, status: int, whole_group: bool, tmp_path: Path
) -> None:
    ranks = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    for name, overrides in {
        "ranks": (*TRAINING, *ranks),
        "pipeline": (*TRAINING, "stage=pipeline"),
    }.items():
        process = start(tmp_path / name, *overrides)
        wait_for("output/checkpoints/batch-*.ckpt", tmp_path / name, process)
        (os.killpg if whole_group else os.kill)(process.pid, number)
        assert "saved" in ended(process, status)
