"""Callback that kills a sweep job, added by tests on the command line."""

import os
import signal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class KillOnce(Callback):
    """SIGKILL callback: kills the process at a step of the job with `seed`, once.

    Args:
        marker: a file that says that it has happened.
        seed: this job's seed.
        victim: the seed of the job to be killed.
        step: how many steps of it are done by then.
    """

    def __init__(self, marker: str, seed: int, victim: int, step: int) -> None:
        self.marker = Path(marker)
        self.step = step if seed == victim else None

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
