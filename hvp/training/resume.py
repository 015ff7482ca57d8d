"""Exact resume: bit-identical continuation of a training from a checkpoint.

Adds RNG states, metrics and epoch progress to what Lightning saves (weights, optimizers, schedules,
loops, loader position).
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
    """Exact resume callback: adds to checkpoints the state that Lightning leaves out.

    The RNG states of every rank, restored at the start of the first batch after resuming, as setup
    (workers, loaders) may draw random numbers that an uninterrupted run draws elsewhere. The
    metrics of the last validation, which a training that ends without another validation publishes.
    The step count of the loggers. And at the end of an epoch the loop state of the next one, see
    `_begin_next_epoch`.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None
        self._logged_batches: int | None = None
        self._metrics: dict[str, float] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the RNG states of all ranks, by rank; between epochs, advance to the next epoch."""
        progress = checkpoint["loops"]["fit_loop"]
        epochs = progress["epoch_progress"]["total"]
        logged = trainer.fit_loop.epoch_loop._batches_that_stepped
        if epochs["processed"] == epochs["started"]:
            _begin_next_epoch(progress)
        elif not trainer.fit_loop._should_accumulate():
            logged += 1  # counted after the hooks
        states: list[Any] = [get_rng_state()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            dist.all_gather_object(states, get_rng_state())
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        checkpoint[_EXTRA] = {
            "random_states": states,
            "logged_batches": logged,
            "metrics": {**self._metrics, **metrics},
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read the state of this rank; ranks that the saved run did not have keep their own RNG."""
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
        """Restore the state at the first batch."""
        if self._logged_batches is not None:
            trainer.fit_loop.epoch_loop._batches_that_stepped = self._logged_batches
            self._logged_batches = None
        if self._restored is not None:
            set_rng_state(self._restored)
            self._restored = None


def saved_metrics(checkpoint: dict[str, Any]) -> dict[str, float]:
    """Validation metrics in a loaded checkpoint."""
    metrics: dict[str, float] = checkpoint[_EXTRA]["metrics"]
    return metrics


def _begin_next_epoch(fit_loop: dict[str, Any]) -> None:
    """Advance the saved fit loop state from the end of an epoch to the start of the next.

    Lightning marks an epoch as completed and resets its batch counters only after the hooks in
    which one can save. Resumed unchanged, the next epoch would start with the old batch counters
    (and be skipped if `max_steps` is set) or with the old shuffling order.
    """
    epochs = fit_loop["epoch_progress"]
    for count in (epochs["current"], epochs["total"]):
        count["completed"] = count["processed"]
    for name in ("batch_progress", "scheduler_progress"):
        progress = fit_loop[f"epoch_loop.{name}"]
        progress["current"] = dict.fromkeys(progress["current"], 0)
    fit_loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    fit_loop["state_dict"].pop("combined_loader", None)


def get_rng_state() -> dict[str, Any]:
    """RNG states of Python, numpy, torch and this process's CUDA device.

    Plain values and tensors only, so that checkpoints load without unpickling code.
    """
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (str(name), [int(k) for k in keys], position, has_gauss, float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore the RNG states returned by `get_rng_state`."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
