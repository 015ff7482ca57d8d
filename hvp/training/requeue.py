"""Stop on a signal: training saves a checkpoint first, and a SLURM job is requeued.

The signal handler only sets a flag; all ranks stop together after the current batch. So no
checkpoint is saved in the middle of a step, as one saved inside a handler would be.

Predictions are kept per clip, so predicting stops at once; in a SLURM job, which is requeued then,
each rank does after its current batch.
"""

import os
import signal
import subprocess
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from hvp import signals
from hvp.log import say
from hvp.training.checkpoints import checkpoint_policy, is_last_batch_of_training


def in_slurm_job() -> bool:
    """Whether this process belongs to a SLURM batch job."""
    return "SLURM_JOB_ID" in os.environ


def listen_in_slurm_job() -> None:
    """In a SLURM job: only note the signals before its end, which otherwise kill the process."""
    if in_slurm_job():
        signals.listen(only_noted=(signal.SIGUSR1, signal.SIGTERM))


class StopOnSignal(Checkpoint):
    """Callback that stops on a signal: saves; in a SLURM job also `scontrol requeue`.

    A predicting rank stops on its own signal, without synchronising with the others, which may have
    finished.
    """

    def __init__(self) -> None:
        self._stopping = False

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Replace Lightning's signal handlers, which talk to other ranks inside a step."""
        signals.listen()

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """As `on_train_start`."""
        signals.listen()

    def on_predict_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """As `on_train_start`."""
        signals.listen()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and stop, or wait for the end of the epoch if this was its last batch.

        After the last batch of the training it ends normally.
        """
        signalled = signals.received() is not None
        signalled = trainer.strategy.reduce_boolean_decision(signalled, all=False)
        self._stopping = signalled and not is_last_batch_of_training(trainer)
        if self._stopping and not trainer.is_last_batch:
            _save_and_stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and stop after the learning-rate schedules of the epoch."""
        if self._stopping:
            _save_and_stop(trainer)

    def on_predict_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Requeue and stop after the current clips."""
        signals.stop_if_signalled()
        if signals.received() is not None:
            print(
                f"this job was signalled to end: requeueing job {job_id()}, clips so far are kept"
            )
            subprocess.run(["scontrol", "requeue", job_id()], check=False)  # or another rank has
            raise SystemExit(0)


def _save_and_stop(trainer: pl.Trainer) -> None:
    """Save a checkpoint and end this process; call on all ranks.

    Raises:
        Stopped: outside of a SLURM job.
        SystemExit: this job was requeued.
    """
    path = checkpoint_policy(trainer).save(trainer)
    number = signals.received() or signal.SIGTERM  # another rank's
    if not in_slurm_job() or number == signal.SIGINT:
        say(f"{signals.name(number)}: saved {path}")
        raise signals.Stopped(number)
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
