"""Callback that validates after the last training batch, whatever `val_check_interval` says."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from hvp.training.checkpoints import is_last_batch_of_training


class ValidateAtEnd(Callback):
    """Callback that validates the final weights of a training.

    So every training has validation metrics, even one shorter than the interval, and the published
    metrics are those of the published weights.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Schedule a validation after this batch if it is the last."""
        if is_last_batch_of_training(trainer):
            trainer.check_val_every_n_epoch = None  # batches are counted over epochs
            trainer.val_check_batch = trainer.fit_loop.total_batch_idx + 1
