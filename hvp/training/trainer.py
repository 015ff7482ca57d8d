"""Trainer of a stage, with loggers, callbacks and plugins."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from hvp.config.build import build
from hvp.config.settings import TrainingSettings
from hvp.reporting.loggers import build_loggers
from hvp.training.batch_norm import SyncBatchNorms
from hvp.training.checkpoints import AtomicCheckpointIO
from hvp.training.requeue import StopOnSignal
from hvp.training.resume import ExactResume


def build_trainer(
    settings: TrainingSettings,
    callbacks: Sequence[Callback] = (),
    options: Mapping[str, Any] | None = None,
) -> pl.Trainer:
    """Build the Lightning Trainer of the config.

    Args:
        settings: settings of the stage.
        callbacks: callbacks of the stage, appended to those of the config.
        options: `Model.trainer_options`, for keys that the config leaves empty.
    """
    # Older versions of Lightning lack some keys; those are dropped if null.
    known = inspect.signature(pl.Trainer.__init__).parameters
    recipe = {k: v for k, v in settings.trainer.items() if v is not None or k in known}
    if recipe.get("check_val_every_n_epoch") is not None and not any(
        override.startswith("trainer.val_check_interval=") for override in settings.command_line
    ):
        recipe["val_check_interval"] = 1.0  # the model's interval counts batches over epochs
    for key, value in (options or {}).items():
        recipe[key] = recipe.get(key) or value
    plugins: list[Any] = [AtomicCheckpointIO()]
    if recipe.get("sync_batchnorm"):
        plugins.append(SyncBatchNorms())
    trainer: pl.Trainer = build(
        recipe,
        logger=build_loggers(settings.loggers),
        callbacks=[
            *map(build, settings.callbacks.values()),
            *callbacks,
            ExactResume(),
            StopOnSignal(),
        ],
        plugins=plugins,
        default_root_dir=str(settings.output_dir),
        use_distributed_sampler=False,  # ClipSampler shards by rank
    )
    return trainer
