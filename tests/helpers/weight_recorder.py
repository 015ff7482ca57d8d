"""Callback that records the weights of a training."""

from typing import Any, ClassVar

import pytorch_lightning as pl
from torch import Tensor

Weights = dict[str, Tensor]


class WeightRecorder(pl.Callback):
    """Records the weights after every training batch and during validation."""

    trained: ClassVar[list[Weights]] = []
    validated: ClassVar[list[Weights]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.trained.append(copy_of(module))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any
    ) -> None:
        self.validated.append(copy_of(module))


def copy_of(module: pl.LightningModule) -> Weights:
    return {name: value.clone() for name, value in module.state_dict().items()}
