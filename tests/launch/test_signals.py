"""Ctrl-C and SIGTERM: what was done is saved and said, the exit status is theirs."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, SMALL

TWO_RANKS = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
LONG = (*SMALL, "stage=structure", "model.structure.max_steps=100000")


def start(*overrides: str, work_dir: Path) -> subprocess.Popen[str]:
    """`python run.py OVERRIDES` as the leader of a process group, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, "-u", "run.py", *overrides, f"work_dir={work_dir}"],
        cwd=ROOT, env=os.environ | {"COLUMNS": "200"}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def until(condition: object, process: subprocess.Popen[str], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str], status: int) -> str:
    said, _ = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "Traceback" not in said, said
    return said


@pytest.mark.parametrize(
    ("number", "ranks"),
    [
        (signal.SIGINT, 1),
        (signal.SIGTERM, 1),
        (signal.SIGINT, 2),
    ],
)
def test_training_saves_and_goes_on(number: signal.Signals, ranks: int, tmp_path: Path) -> None:
    often = (*LONG, *(TWO_RANKS if ranks > 1 else ()), "callbacks.checkpoint.every_n_batches=3")
    process = start(*often, work_dir=tmp_path)
    until(lambda: list(tmp_path.glob("outputs/*/checkpoints/batch-*.ckpt")), process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as the terminal does
    else:
        process.send_signal(number)
    said = ended(process, 128 + number)
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    saved = re.search(rf"{name}: saved (\S+\.ckpt)", said)
    assert saved, said
    assert said.count("the same command goes on") == 1
    assert "stopped by" in said.splitlines()[-1]
    newest = max(tmp_path.glob("outputs/*/checkpoints/batch-*.ckpt"))
    assert newest == Path(saved[1])
    assert not list(tmp_path.glob("artifacts/structure-*"))  # nothing half-trained is published
    log = next(tmp_path.glob("outputs/*/run.log")).read_text()
    assert saved[1] in log
    assert "stopped by" in log


def test_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    slow = "+callbacks.slow={_target_: tests.helpers.slow_batches.SlowBatches, seconds: 30}"
    process = start(*LONG, slow, work_dir=tmp_path)
    until(lambda: list(tmp_path.glob("outputs/*/in_batch")), process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = ended(process, 130)
    assert time.monotonic() - began < 10
    assert "Ctrl-C again ends at once" in said


def catches_sigterm(process: subprocess.Popen[str]) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("delay", [0, 0.4, 1.0, 2.0])
def test_ctrl_c_before_the_work_has_begun_is_no_traceback(delay: float, tmp_path: Path) -> None:
    process = start(*LONG, work_dir=tmp_path)
    until(lambda: catches_sigterm(process), process)  # Python itself has started
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    assert "stopped by Ctrl-C" in ended(process, 130)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whole_group", [True, False])
@pytest.mark.parametrize("several", [("stage=pipeline",), TWO_RANKS])
def test_pipeline_and_ranks_stop_with_their_parent(
    several: tuple[str, ...], whole_group: bool, number: signal.Signals, tmp_path: Path
) -> None:
    process = start(*LONG, "callbacks.checkpoint.every_n_batches=3", *several, work_dir=tmp_path)
    until(lambda: list(tmp_path.glob("outputs/*/checkpoints/batch-*.ckpt")), process)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    assert re.search(r"(Ctrl-C|SIGTERM): saved", ended(process, 128 + number))
