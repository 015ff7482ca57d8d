"""Callback that makes a training batch take long."""

import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class SlowBatches(Callback):
    """Waits in the first batch, once it has said so by the file `in_batch`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        (Path(trainer.default_root_dir) / "in_batch").touch()
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            time.sleep(0.05)
