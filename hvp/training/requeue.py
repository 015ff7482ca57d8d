"""Signals in training and prediction: save a checkpoint and end; a SLURM job is requeued.

The signal handler only sets a flag; all ranks stop together after the current batch. So no
checkpoint is saved in the middle of a step, as one saved inside a handler would be. A signal during
validation waits for the batch behind it. Predictions are kept per clip, so a predicting rank stops
after its current batch.
"""

import os
import subprocess
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from hvp.log import say
from hvp.signals import Stopped, handle_signals, received
from hvp.training.checkpoints import checkpoint_policy, is_last_batch_of_training


def in_slurm_job() -> bool:
    """Whether this process belongs to a SLURM batch job."""
    return "SLURM_JOB_ID" in os.environ


def install_signal_handlers() -> None:
    """Install the handlers of SIGINT and SIGTERM, in a SLURM job of SIGUSR1 too."""
    handle_signals(slurm=in_slurm_job())


class StopOnSignal(Checkpoint):
    """Signal callback: once any rank got a signal, save a checkpoint and end.

    In a SLURM job, `scontrol requeue` and exit status 0; else 128 + the signal. A predicting rank
    stops on its own signal, without synchronising with the others, which may have finished.
    """

    def __init__(self) -> None:
        self._stopping: int | None = None

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Replace Lightning's signal handlers, which save inside a step."""
        install_signal_handlers()

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Replace Lightning's signal handlers."""
        install_signal_handlers()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and stop, or wait for the end of the epoch if this was its last batch.

        After the last batch of the training it ends normally; see `fit`.
        """
        self._stopping = _signal_of_any_rank(trainer)
        if is_last_batch_of_training(trainer):
            self._stopping = None
        if self._stopping is not None and not trainer.is_last_batch:
            _save_and_stop(trainer, self._stopping)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and stop after the learning-rate schedules of the epoch."""
        if self._stopping is not None:
            _save_and_stop(trainer, self._stopping)

    def on_predict_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop after the current clips."""
        number = received()
        if number is None:
            return
        if not in_slurm_job():
            say("this run was signalled to end: clips so far are kept; the same command goes on")
            raise Stopped(number)
        print(f"this job was signalled to end: requeueing job {job_id()}, clips so far are kept")
        subprocess.run(["scontrol", "requeue", job_id()], check=False)  # or another rank has
        raise SystemExit(0)


def _signal_of_any_rank(trainer: pl.Trainer) -> int | None:
    """The signal that this rank or another got; all ranks get the same answer."""
    number = received() or 0
    if trainer.world_size > 1:
        found = torch.tensor(number, device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(found, reduce_op="max"))
    return number or None


def _save_and_stop(trainer: pl.Trainer, number: int) -> NoReturn:
    path = checkpoint_policy(trainer).save(trainer)
    if not in_slurm_job():
        say(f"this run was signalled to end: saved {path}; the same command goes on from there")
        raise Stopped(number)
    say(f"this job was signalled to end: saved {path}, requeueing job {job_id()}")
    if trainer.is_global_zero:
        subprocess.run(["scontrol", "requeue", job_id()], check=True)
    raise SystemExit(0)


def job_id() -> str:
    """SLURM id of this job or array task, as scontrol takes it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]
