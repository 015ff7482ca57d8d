"""Nothing is lost when a run is killed: it goes on to the very weights it would have had."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hvp.artifacts.local import LocalStore
from hvp.stages.checkpoints import newest_good, random_state, set_random_state
from tests.stages.commands import ROOT, SMALL, run_well

# Epochs of a few batches, so that a kill falls on any place of them; saved at every batch.
TRAINING = (
    *SMALL,
    "predict=false",
    "dataset.datamodule.frames_per_recording=12",
    "callbacks.checkpoint.every_n_batches=1",
    "callbacks.progress=null",
    "callbacks.checkpoint.keep=3",
)
STAGES = {
    "structure": ("stage=structure", "model.structure.max_steps=25"),
    # Clips grow after every second epoch, the learning rates fall.
    "image": (
        "stage=image", "model.image.max_steps=72", "model.image.module.n_epochs=1",
        "model.image.module.n_epochs_decay=20", "model.image.module.n_epochs_step=2",
        "model.image.module.n_frames_total=2", "model.image.module.n_frames_load=2",
    ),
}  # fmt: skip
RANKS = {
    1: (),
    2: ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"),
}


def weights(work_dir: Path, stage: str) -> dict[str, Tensor]:
    artifact = LocalStore(work_dir / "artifacts").fetch(f"{stage}-synthetic-checkpoint")
    return torch.load(artifact.path / "last.ckpt", weights_only=True)["state_dict"]


def train_until(checkpoint: str, arguments: tuple[str, ...], work_dir: Path) -> None:
    """Start training and kill it, all its processes at once, when `checkpoint` appears."""
    command = [sys.executable, "run.py", *arguments, f"work_dir={work_dir}"]
    training = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not list(work_dir.glob(f"outputs/*/checkpoints/{checkpoint}")):
            assert training.poll() is None, "training ended before it could be killed"
            assert time.monotonic() < deadline, f"no {checkpoint} appeared"
            time.sleep(0.01)
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()


@pytest.mark.parametrize("n_ranks", RANKS)
@pytest.mark.parametrize("stage", STAGES)
def test_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    stage: str, n_ranks: int, tmp_path: Path
) -> None:
    arguments = (*TRAINING, *RANKS[n_ranks], *STAGES[stage])
    run_well(*arguments, work_dir=tmp_path / "straight")
    train_until("batch-000000007.ckpt", arguments, tmp_path / "killed")
    printed = run_well(*arguments, work_dir=tmp_path / "killed")
    assert "going on from" in printed
    straight, killed = (weights(tmp_path / name, stage) for name in ("straight", "killed"))
    assert straight.keys() == killed.keys()
    assert [name for name in straight if not torch.equal(straight[name], killed[name])] == []


def test_newest_good_checkpoint_is_used_and_the_corrupt_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    assert newest_good(tmp_path) is None
    for n in (9, 10, 11):
        torch.save({"weights": torch.full((1000,), float(n))}, folder / f"batch-{n:09d}.ckpt")
    assert newest_good(tmp_path) == folder / "batch-000000011.ckpt"
    newest = (folder / "batch-000000011.ckpt").read_bytes()
    middle = len(newest) // 2
    (folder / "batch-000000011.ckpt").write_bytes(  # one flipped bit
        newest[:middle] + bytes([newest[middle] ^ 1]) + newest[middle + 1 :]
    )
    with (folder / "batch-000000010.ckpt").open("r+b") as file:
        file.truncate(1000)
    assert newest_good(tmp_path) == folder / "batch-000000009.ckpt"
    printed = capsys.readouterr().out
    assert "batch-000000011.ckpt is corrupt" in printed
    assert "batch-000000010.ckpt is corrupt" in printed


def test_random_states_come_back_through_a_file_that_loads_without_code(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.normal()), float(torch.rand(()))]

    np.random.normal()  # numpy keeps the second of each pair
    torch.save(random_state(), tmp_path / "state.pt")
    first = draw()
    assert draw() != first
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == first
