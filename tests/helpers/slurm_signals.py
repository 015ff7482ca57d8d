"""Callbacks that make SLURM preempt or time out a training at a given step."""

import os
import re
import subprocess
import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from hvp import signals
from hvp.training import requeue

SECONDS = 120


class _EndsItsJob(Callback):
    """On its first start, before batch `in_batch` (from 0), waits until SLURM signals the job.

    With `predicting`, before a batch of clips that are predicted instead.
    """

    def __init__(self, in_batch: int, predicting: bool = False) -> None:
        self.in_batch = in_batch
        self.predicting = predicting

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        if not self.predicting and trainer.fit_loop.total_batch_idx == self.in_batch:
            self._end(trainer)

    def on_predict_batch_start(
        self, trainer: pl.Trainer, module: object, batch: object, batch_idx: int
    ) -> None:
        if self.predicting and batch_idx == self.in_batch:
            self._end(trainer)

    def _end(self, trainer: pl.Trainer) -> None:
        if "SLURM_RESTART_COUNT" in os.environ or not trainer.is_global_zero:
            return
        self.bring_about()
        deadline = time.monotonic() + SECONDS
        while signals.received() is None:
            assert time.monotonic() < deadline, "SLURM did not tell the job"
            time.sleep(0.05)
        self.afterwards()

    def bring_about(self) -> None:
        raise NotImplementedError

    def afterwards(self) -> None:
        return


class Preempted(_EndsItsJob):
    """Preemption by a job of higher priority on all nodes."""

    def bring_about(self) -> None:
        important = ("-p", "high", "-N", "2", "--exclusive", "--output=/dev/null", "--wrap=true")
        subprocess.run(["sbatch", *important], check=True)


class TimedOut(_EndsItsJob):
    """Time limit of the job, lowered to less than two minutes from now."""

    def bring_about(self) -> None:
        shown = subprocess.run(
            ["scontrol", "-o", "show", "job", requeue.job_id()],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        hours, minutes, _ = re.findall(r"\d+", shown.partition("RunTime=")[2])[:3]
        self._limit(60 * int(hours) + int(minutes) + 2)

    def afterwards(self) -> None:
        self._limit(60)

    def _limit(self, minutes: int) -> None:
        change = f"TimeLimit={minutes}"
        subprocess.run(["scontrol", "update", f"JobId={requeue.job_id()}", change], check=True)
