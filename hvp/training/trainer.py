"""The Trainer of a stage, with its loggers, callbacks and plugins."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from hvp.config.build import build
from hvp.config.settings import TrainingSettings
from hvp.reporting.loggers import build_loggers
from hvp.training.batch_norm import SyncBatchNorms
from hvp.training.checkpoints import AtomicCheckpointIO
from hvp.training.requeue import Requeue, in_slurm_job
from hvp.training.resume import ExactResume


def build_trainer(
    settings: TrainingSettings,
    callbacks: Sequence[Callback] = (),
    options: Mapping[str, Any] | None = None,
) -> pl.Trainer:
    """The Trainer of the config.

    Args:
        settings: of the stage.
        callbacks: the stage's own; they come after the config's.
        options: what the model needs of a Trainer, where the config says nothing.
    """
    # Earlier versions of Lightning do not know all keys, which does not matter where they are null.
    known = inspect.signature(pl.Trainer.__init__).parameters
    recipe = {k: v for k, v in settings.trainer.items() if v is not None or k in known}
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
            *([Requeue()] if in_slurm_job() else []),
        ],
        plugins=plugins,
        default_root_dir=str(Path(settings.output_dir)),
        use_distributed_sampler=False,  # the clip sampler shards by itself
    )
    return trainer
