"""Callback that validates after the last training batch, whatever `val_check_interval` says."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from hvp.training.checkpoints import is_ending


class ValidateAtEnd(Callback):
    """Validates the weights that training ends with.

    So every training has validation metrics, also one that is shorter than the interval, and those
    that are published are of the published weights.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Have the loop validate after this batch, if it is the last."""
        if is_ending(trainer):
            every_epoch = trainer.check_val_every_n_epoch is not None
            loop = trainer.fit_loop
            done = loop.epoch_loop.batch_idx if every_epoch else loop.total_batch_idx
            trainer.val_check_batch = done + 1
