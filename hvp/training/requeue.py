"""Requeue on SLURM: a preempted or timed-out job saves, is requeued and resumes at its step.

A handler only takes note of the signal; all ranks stop together after the batch they are in. So no
checkpoint is taken in the middle of a step, which is what a save inside a handler amounts to.
Predictions are kept clip by clip, so that a rank just stops after those it is at.
"""

import os
import signal
import subprocess
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from hvp.log import say
from hvp.training.checkpoints import is_ending, policy_of

_signalled = False


def in_slurm_job() -> bool:
    """Whether this process belongs to a SLURM batch job."""
    return "SLURM_JOB_ID" in os.environ


def listen() -> None:
    """Take note of the signals that end a job, instead of dying of them."""
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, _note_signal)


def _note_signal(number: int, frame: FrameType | None) -> None:
    global _signalled
    _signalled = True


class Requeue(Checkpoint):
    """Ends training once any rank was signalled to: checkpoint, `scontrol requeue`, exit.

    Ends a rank's predictions once it was signalled to, without asking the others, which may be
    done.
    """

    def __init__(self) -> None:
        self._stopping = False

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Listen in place of Lightning, whose handlers save inside a step."""
        listen()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop here, or at the end of the epoch if this was its last batch.

        After the last batch of all there is nothing to go on with: training ends as it would.
        """
        signalled = trainer.strategy.reduce_boolean_decision(_signalled, all=False)
        self._stopping = signalled and not is_ending(trainer)
        if self._stopping and not trainer.is_last_batch:
            _stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop after the epoch's schedules."""
        if self._stopping:
            _stop(trainer)

    def on_predict_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop after these clips."""
        if _signalled:
            print(
                f"this job was signalled to end: requeueing job {job_id()}, clips so far are kept"
            )
            subprocess.run(["scontrol", "requeue", job_id()], check=False)  # or another rank has
            raise SystemExit(0)


def _stop(trainer: pl.Trainer) -> None:
    path = policy_of(trainer).save(trainer)
    say(f"this job was signalled to end: saved {path}, requeueing job {job_id()}")
    if trainer.is_global_zero:
        subprocess.run(["scontrol", "requeue", job_id()], check=True)
    raise SystemExit(0)


def job_id() -> str:
    """The id of this job as scontrol takes it."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]
