"""Exact resume: a checkpoint holds everything the next batch depends on.

What Lightning saves by itself (weights, optimizers, schedules, progress, the loader's position) is
completed here.
"""

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from hvp.log import say

_EXTRA = "exact_resume"


class ExactResume(Callback):
    """Adds to checkpoints what Lightning leaves out, so that resuming changes nothing.

    The metrics of the last validation, which a training that ends without another one publishes.
    The random generators of every rank: restored when the first batch after resuming starts, as
    what happens before (workers, loaders) may draw numbers that an uninterrupted run draws
    elsewhere. The step that loggers count. And at the end of an epoch the progress of the next one,
    see `_begin_next_epoch`.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None
        self._logged_batches: int | None = None
        self._metrics: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of all ranks, in their order; between epochs, begin the next."""
        progress = checkpoint["loops"]["fit_loop"]
        epochs = progress["epoch_progress"]["total"]
        logged = trainer.fit_loop.epoch_loop._batches_that_stepped
        if epochs["processed"] == epochs["started"]:
            _begin_next_epoch(progress)
        elif not trainer.fit_loop._should_accumulate():
            logged += 1  # counted after the hooks
        states: list[Any] = [random_state()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            dist.all_gather_object(states, random_state())
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint[_EXTRA] = {
            "random_states": states,
            "logged_batches": logged,
            "metrics": {**self._metrics, **metrics},
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember this rank's state; ranks that the saved run did not have start afresh."""
        extra = checkpoint.get(_EXTRA)
        if extra is None:
            return
        self._logged_batches = extra["logged_batches"]
        self._metrics = extra["metrics"]
        states = extra["random_states"]
        if len(states) != trainer.world_size:
            say(f"the checkpoint is of {len(states)} ranks, this run has {trainer.world_size}")
        if trainer.global_rank < len(states):
            self._restored = states[trainer.global_rank]

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Restore, once."""
        if self._logged_batches is not None:
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._logged_batches
            self._logged_batches = None
        if self._restored is not None:
            set_random_state(self._restored)
            self._restored = None


def saved_metrics(checkpoint: dict[str, Any]) -> dict[str, float]:
    """The validation metrics that a loaded checkpoint was saved with."""
    metrics: dict[str, float] = checkpoint[_EXTRA]["metrics"]
    return metrics


def _begin_next_epoch(fit_loop: dict[str, Any]) -> None:
    """Change the saved progress at the end of an epoch to that at the start of the next.

    Lightning counts an epoch as complete, and its batches as none, only after the hooks in which
    one can save. Resumed as it is, the next epoch would go on with the old one's batch counters
    (and with `max_steps` set, would be left out), or get the old one's order of clips.
    """
    epochs = fit_loop["epoch_progress"]
    for count in (epochs["current"], epochs["total"]):
        count["completed"] = count["processed"]
    for name in ("batch_progress", "scheduler_progress"):
        progress = fit_loop[f"epoch_loop.{name}"]
        progress["current"] = dict.fromkeys(progress["current"], 0)
    fit_loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    fit_loop["state_dict"].pop("combined_loader", None)


def random_state() -> dict[str, Any]:
    """States of the global generators of Python, numpy, torch and this process's CUDA device.

    Plain values and tensors only, so that checkpoints load without unpickling code.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (str(name), [int(k) for k in keys], position, has_gauss, float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Undo what happened to the generators since `state` was taken by `random_state`."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
