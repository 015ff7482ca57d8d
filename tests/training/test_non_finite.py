"""Non-finite losses, gradients and weights end training; faults of the machine are sentences."""

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from hvp.training import fit
from hvp.training.checkpoints import checkpoint_dir, latest_intact
from hvp.training.non_finite import EndNonFinite
from tests.helpers.commands import SMALL, run_here

TRAINING = (
    *SMALL, "predict=false", "callbacks.progress=null", "callbacks.samples=null",
    "callbacks.checkpoint.every_n_batches=1",
)  # fmt: skip
Plant = Callable[[Callback], None]


class AtBatch(Callback):
    """Calls a function with the module before one batch, counted from 1."""

    def __init__(self, batch: int, function: Callable[[pl.LightningModule], None]) -> None:
        self.batch = batch
        self.function = function

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            self.function(pl_module)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """Adds a callback to the next training, whose config stays as it is."""
    build = fit.build_trainer
    with monkeypatch.context() as patch:
        yield lambda callback: patch.setattr(
            fit, "build_trainer", lambda s, c, o: build(s, [*c, callback], o)
        )


def output(work_dir: Path) -> Path:
    (found,) = {path.parent for path in work_dir.glob("outputs/*/checkpoints")}
    return found


def spoil_gradient(module: pl.LightningModule) -> None:
    first = next(p for p in module.parameters() if p.requires_grad)
    handle = first.register_hook(lambda grad: handle.remove() or grad * math.inf)


def spoil_weights(module: pl.LightningModule) -> None:
    with torch.no_grad():
        next(module.parameters()).fill_(math.nan)


@pytest.mark.parametrize(
    ("stage", "spoil"),
    [("structure", spoil_gradient), ("structure", spoil_weights), ("image", spoil_weights),
     ("svg_rgb", spoil_gradient)],
)  # fmt: skip
def test_non_finite_training_ends_with_a_diagnosis(
    stage: str, spoil: Callable[[pl.LightningModule], None], plant: Plant, tmp_path: Path
) -> None:
    plant(AtBatch(2, spoil))
    small = ("model.svg_rgb.module.network.base_width=4", "model.svg_rgb.batch_size=2")
    more = small if stage == "svg_rgb" else ()
    said = r"diverged at step \d+ \(batch 2\): .* not finite, learning rate \d.*, clips .+ hold the"
    with pytest.raises(SystemExit, match=said):
        run_here(*TRAINING, f"stage={stage}", *more, work_dir=tmp_path)
    folder = output(tmp_path)
    good = latest_intact(folder)
    assert good is not None
    assert good.name == "batch-000000001.ckpt"
    (path,) = checkpoint_dir(folder).glob("non-finite-*.json")
    report = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert report["batch"] == 2
    assert report["clips"]
    assert report["learning_rates"][0] > 0
    assert report["gradients_not_finite"]
    with np.load(path.with_suffix(".npz")) as clips:
        assert len(clips["labels_BTHW"]) == len(report["clips"])
    assert not list(tmp_path.glob(f"artifacts/{stage}-*"))


def test_non_finite_statistics_never_become_a_checkpoint(plant: Plant, tmp_path: Path) -> None:
    """Found at the save: no loss depends on them in training."""
    plant(AtBatch(2, lambda module: module.register_buffer("running", torch.tensor([math.nan]))))
    with pytest.raises(SystemExit, match="running is not finite at step 2; nothing was saved"):
        run_here(*TRAINING, "stage=structure", work_dir=tmp_path)
    good = latest_intact(output(tmp_path))
    assert good is not None
    assert good.name == "batch-000000001.ckpt"


def test_a_loss_out_of_range_is_a_warning_once(capsys: pytest.CaptureFixture[str]) -> None:
    watch = EndNonFinite()
    for loss in [1.0, 1.5, 0.7] * 10:
        watch._watch([loss])
    assert capsys.readouterr().out == ""
    for loss in (900.0, 1500.0, 2500.0, 1.0, 1500.0, 2500.0):
        watch._watch([loss])
    assert capsys.readouterr().out == ""
    for loss in (3500.0, 4500.0, 5500.0):
        watch._watch([loss])
    assert capsys.readouterr().out.count("warning: the loss is 3500") == 1


def kill_a_worker(_: object) -> None:
    from multiprocessing import active_children

    os.kill(active_children()[0].pid or 0, signal.SIGKILL)


def run_out_of_memory(_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [(kill_a_worker, "dataset.num_workers"), (run_out_of_memory, "out of memory.*batch_size")],
)
def test_faults_of_the_machine_are_sentences_and_the_command_goes_on(
    fault: Callable[[object], None],
    sentence: str,
    plant: Plant,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = (*TRAINING, "stage=structure", "dataset.num_workers=1", "model.structure.max_steps=6")
    with monkeypatch.context() as patch:
        build = fit.build_trainer
        planted = AtBatch(3, fault)
        patch.setattr(fit, "build_trainer", lambda s, c, o: build(s, [*c, planted], o))
        with pytest.raises(SystemExit, match=f"{sentence}.*same command goes on"):
            run_here(*command, work_dir=tmp_path)
    run_here(*command, work_dir=tmp_path)
    assert "going on from" in capsys.readouterr().out
    assert list(tmp_path.glob("artifacts/structure-*"))
