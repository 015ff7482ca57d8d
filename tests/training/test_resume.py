"""Exact resume: a killed run continues to bit-identical weights."""

import os
import random
import re
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
from hvp.training.checkpoints import latest_intact
from hvp.training.resume import get_rng_state, set_rng_state
from tests.helpers.commands import ROOT, SMALL, run_well
from tests.helpers.forked import train, train_and_kill

TRAINING = (*SMALL, "predict=false", "callbacks.progress=null", "callbacks.checkpoint.keep=3")
STAGES = {
    # Four batches per epoch.
    "structure": (
        "stage=structure", "model.structure.max_steps=10",
        "dataset.datamodule.frames_per_recording=9",
    ),
    # The same, ended by epochs: how many steps that makes is known from the loader alone.
    "structure-epochs": (
        "stage=structure", "trainer.max_steps=-1", "trainer.max_epochs=3",
        "dataset.datamodule.frames_per_recording=9",
    ),
    # The best weights are published; checkpoints and validations come at the same batches.
    "structure-best": (
        "stage=structure", "model.structure.max_steps=7", "callbacks.checkpoint.mode=max",
        "dataset.datamodule.frames_per_recording=12", "callbacks.checkpoint.monitor=val/loss",
        "trainer.val_check_interval=3",
    ),
    # Three batches of clips of 4 frames, two of 6 frames, then one of 8; the learning rates fall.
    # The published weights are an EMA.
    "image": (
        "stage=image", "model.image.max_steps=20", "dataset.datamodule.frames_per_recording=9",
        "dataset.datamodule.n_train=1", "dataset.size=[32,32]", "model.image.module.n_epochs=1",
        "model.image.module.n_epochs_decay=20", "model.image.module.n_epochs_step=1",
        "model.image.module.n_frames_total=2", "model.image.module.n_frames_load=2",
        "model.image.ema_decay=0.9",
    ),
}  # fmt: skip
ONE: tuple[str, ...] = ()
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
SHARDED = ("trainer=fsdp", *TWO[1:])


def weights(work_dir: Path, stage: str) -> dict[str, Tensor]:
    name = stage.partition("-")[0]
    artifact = LocalStore(work_dir / "artifacts").fetch(f"{name}-synthetic-checkpoint")
    return torch.load(artifact.path / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("stage", "ranks", "every", "in_batch", "saved"),
    [
        pytest.param("structure", ONE, 1, 7, 6, id="structure-1"),
        pytest.param("structure", TWO, 4, 6, 4, id="structure-2"),
        pytest.param("structure-epochs", ONE, 2, 7, 6, id="structure-epochs"),
        pytest.param("structure-best", ONE, 3, 4, 3, id="structure-best"),
        pytest.param("structure", SHARDED, 3, 5, 3, id="structure-sharded"),
        pytest.param("image", ONE, 3, 5, 3, id="image-1"),
        pytest.param("image", TWO, 1, 5, 4, id="image-2"),
    ],
)
def test_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    stage: str, ranks: tuple[str, ...], every: int, in_batch: int, saved: int, tmp_path: Path
) -> None:
    """Checkpoint every few batches (within or at the end of an epoch), SIGKILL in a later batch."""
    arguments = (*TRAINING, *STAGES[stage], *ranks, f"callbacks.checkpoint.every_n_batches={every}")
    n_ranks = 2 if ranks else 1
    train(tmp_path / "straight", *arguments, n_ranks=n_ranks)
    train_and_kill(tmp_path / "killed", *arguments, n_ranks=n_ranks, in_batch=in_batch)
    printed = train(tmp_path / "killed", *arguments, n_ranks=n_ranks)
    assert re.search(rf"going on from .*batch-0*{saved}\.ckpt", printed)
    straight, killed = (weights(tmp_path / name, stage) for name in ("straight", "killed"))
    assert straight.keys() == killed.keys()
    assert [name for name in straight if not torch.equal(straight[name], killed[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_command_killed_at_any_moment_goes_on_when_it_is_given_again(
    stage: str, tmp_path: Path
) -> None:
    """SIGKILL of launcher and ranks together from outside, at any point, also while saving."""
    arguments = (*TRAINING, *STAGES[stage], *TWO, "callbacks.checkpoint.every_n_batches=1")
    train(tmp_path / "straight", *arguments, n_ranks=2)
    command = [sys.executable, "run.py", *arguments, f"work_dir={tmp_path / 'killed'}"]
    command.append(f"output_dir={tmp_path / 'killed/output'}")
    training = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    files = tmp_path / "killed" / "output" / "checkpoints"
    try:
        deadline = time.monotonic() + 200
        while len(list(files.glob("*"))) < random.Random(stage).randint(1, 3):
            assert training.poll() is None, "training ended before it could be killed"
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.001)
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()
    printed = run_well(*command[2:])
    assert "going on from" in printed
    straight, killed = (weights(tmp_path / name, stage) for name in ("straight", "killed"))
    assert [name for name in straight if not torch.equal(straight[name], killed[name])] == []


def test_latest_intact_checkpoint_is_used_and_the_corrupt_one_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    assert latest_intact(tmp_path) is None
    for n in (9, 10, 11):
        torch.save({"weights": torch.full((1000,), float(n))}, folder / f"batch-{n:09d}.ckpt")
    assert latest_intact(tmp_path) == folder / "batch-000000011.ckpt"
    newest = (folder / "batch-000000011.ckpt").read_bytes()
    middle = len(newest) // 2
    (folder / "batch-000000011.ckpt").write_bytes(  # one flipped bit
        newest[:middle] + bytes([newest[middle] ^ 1]) + newest[middle + 1 :]
    )
    with (folder / "batch-000000010.ckpt").open("r+b") as file:
        file.truncate(1000)
    assert latest_intact(tmp_path) == folder / "batch-000000009.ckpt"
    printed = capsys.readouterr().out
    assert "batch-000000011.ckpt is corrupt" in printed
    assert "batch-000000010.ckpt is corrupt" in printed


def test_random_states_come_back_through_a_file_that_loads_without_code(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.normal()), float(torch.rand(()))]

    np.random.normal()  # numpy keeps the second of each pair
    torch.save(get_rng_state(), tmp_path / "state.pt")
    first = draw()
    assert draw() != first
    set_rng_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == first
