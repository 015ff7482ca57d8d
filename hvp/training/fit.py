"""Fit: train a model from a run's newest good checkpoint, from given weights, or from nothing."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl

from hvp.config.settings import TrainingSettings
from hvp.log import say
from hvp.model import Model
from hvp.training.checkpoints import folder_of, newest_good, policy_of
from hvp.training.ema import ema_callbacks
from hvp.training.resume import saved_metrics
from hvp.training.trainer import build_trainer
from hvp.training.validation import ValidateAtEnd
from hvp.training.weights import (
    CHECKPOINT_FILE,
    CheckpointRecord,
    Weights,
    check_same_training,
    load_state,
    read_checkpoint,
)


@dataclass(frozen=True)
class Fitted:
    """A training that has ended."""

    trainer: pl.Trainer
    checkpoint: Path
    """The one to publish."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Its step and validation metrics, for the artifact."""
        content = read_checkpoint(self.checkpoint)
        return {"global_step": content["global_step"], "metrics": saved_metrics(content)}

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder with the checkpoint as the file that an artifact holds."""
        with TemporaryDirectory(dir=self.checkpoint.parent) as staged:
            (Path(staged) / CHECKPOINT_FILE).hardlink_to(self.checkpoint)
            yield Path(staged)


def fit(
    settings: TrainingSettings,
    model: Model,
    datamodule: pl.LightningDataModule,
    start: Weights | None,
    settings_digest: str,
) -> Fitted:
    """Train `model` to its end.

    Args:
        settings: of the stage.
        model: the model to train.
        datamodule: its clips.
        start: the checkpoint that a new training starts from; None for random weights.
        settings_digest: of everything the weights depend on.

    Raises:
        ConfigError: the output directory holds checkpoints of another training.
    """
    trainer = build_trainer(
        settings,
        [
            *ema_callbacks(settings.model.ema_decay),
            ValidateAtEnd(),
            CheckpointRecord(settings.model, settings_digest),
        ],
        model.trainer_options,
    )
    if settings.force and trainer.is_global_zero:
        shutil.rmtree(folder_of(settings.output_dir), ignore_errors=True)
    resume = None if settings.force else newest_good(settings.output_dir)
    if resume is not None:
        check_same_training(resume, settings_digest)
        say(f"{settings.stage}: going on from {resume}")
    elif start is not None:
        content = read_checkpoint(start.path)
        if _steps_left(trainer, content):
            say(f"{settings.stage}: starting from {start.path}, with its optimizers and steps")
            resume = start.path
        else:
            say(f"{settings.stage}: starting from the weights of {start.path}")
            load_state(model, content["state_dict"], start.path)
    trainer.fit(model, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    fitted = Fitted(trainer, policy_of(trainer).finish(trainer))
    trainer.strategy.barrier("checkpoint saved")
    return fitted


def _steps_left(trainer: pl.Trainer, checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint can be trained on: it has optimizers, and did not reach the end yet.

    Imported checkpoints hold weights only.
    """
    if "optimizer_states" not in checkpoint:
        return False
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if 0 <= trainer.max_steps <= checkpoint["global_step"]:
        return False
    return not (trainer.max_epochs is not None and 0 < trainer.max_epochs <= epochs)
