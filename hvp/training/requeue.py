"""SLURM requeue: a preempted or timed-out job saves a checkpoint, is requeued and resumes.

The signal handler only sets a flag; all ranks stop together after the current batch. So no
checkpoint is saved in the middle of a step, as one saved inside a handler would be. Predictions are
kept per clip, so a predicting rank stops after its current batch.
"""

import os
import signal
import subprocess
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from hvp.log import say
from hvp.training.checkpoints import checkpoint_policy, is_last_batch_of_training

_signalled = False


def in_slurm_job() -> bool:
    """Whether this process belongs to a SLURM batch job."""
    return "SLURM_JOB_ID" in os.environ


def install_signal_handlers() -> None:
    """Install the handlers of SIGUSR1 and SIGTERM, which otherwise kill the process."""
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, _handle_signal)


def _handle_signal(number: int, frame: FrameType | None) -> None:
    global _signalled
    _signalled = True


class Requeue(Checkpoint):
    """Requeue callback: once any rank got a signal, checkpoint, `scontrol requeue`, exit.

    A predicting rank stops on its own signal, without synchronising with the others, which may have
    finished.
    """

    def __init__(self) -> None:
        self._stopping = False

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Replace Lightning's signal handlers, which save inside a step."""
        install_signal_handlers()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and stop, or wait for the end of the epoch if this was its last batch.

        After the last batch of the training it ends normally.
        """
        signalled = trainer.strategy.reduce_boolean_decision(_signalled, all=False)
        self._stopping = signalled and not is_last_batch_of_training(trainer)
        if self._stopping and not trainer.is_last_batch:
            _save_and_requeue(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save and stop after the learning-rate schedules of the epoch."""
        if self._stopping:
            _save_and_requeue(trainer)

    def on_predict_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Requeue and stop after the current clips."""
        if _signalled:
            print(
                f"this job was signalled to end: requeueing job {job_id()}, clips so far are kept"
            )
            subprocess.run(["scontrol", "requeue", job_id()], check=False)  # or another rank has
            raise SystemExit(0)


def _save_and_requeue(trainer: pl.Trainer) -> None:
    path = checkpoint_policy(trainer).save(trainer)
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
