"""Fit: train a model, resumed from a run's latest checkpoint, fine-tuned, or from scratch."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from hvp.config.settings import TrainingSettings
from hvp.data.datamodule import ClipDataModule
from hvp.errors import ConfigError
from hvp.files import link_or_copy
from hvp.log import say
from hvp.model import Model
from hvp.signals import deferred
from hvp.training.checkpoints import checkpoint_dir, checkpoint_policy, latest_intact
from hvp.training.ema import ema_callbacks
from hvp.training.failures import failures_as_sentences
from hvp.training.non_finite import EndNonFinite
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
class FitResult:
    """Result of a finished training."""

    trainer: pl.Trainer
    checkpoint: Path
    """Checkpoint file to publish."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Global step and validation metrics (the finite ones), for the artifact."""
        content = read_checkpoint(self.checkpoint)
        metrics = {n: v for n, v in saved_metrics(content).items() if math.isfinite(v)}
        return {"global_step": content["global_step"], "metrics": metrics}

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Temporary folder with the files of the checkpoint artifact."""
        with TemporaryDirectory(dir=self.checkpoint.parent) as staged:
            link_or_copy(self.checkpoint, Path(staged) / CHECKPOINT_FILE)
            yield Path(staged)


def fit(
    settings: TrainingSettings,
    model: Model,
    datamodule: ClipDataModule,
    start: Weights | None,
    settings_digest: str,
) -> FitResult:
    """Train `model` until the Trainer stops, and save the final checkpoint.

    Args:
        settings: of the stage.
        model: the model to train.
        datamodule: training and validation clips.
        start: checkpoint to start a new training from; None trains from scratch.
        settings_digest: digest of everything the weights depend on.

    Raises:
        ConfigError: the output directory holds checkpoints of another training.
    """
    trainer = build_trainer(
        settings,
        [
            *ema_callbacks(settings.model.ema_decay),
            ValidateAtEnd(),
            CheckpointRecord(settings.model, settings_digest, datamodule.label_space),
            EndNonFinite(),
        ],
        model.trainer_options,
    )
    if settings.force and trainer.is_global_zero:
        shutil.rmtree(checkpoint_dir(settings.output_dir), ignore_errors=True)
    resume = None if settings.force else latest_intact(settings.output_dir)
    if resume is not None:
        check_same_training(resume, settings_digest)
        say(f"{settings.stage}: going on from {resume}")
    elif start is not None:
        say(f"{settings.stage}: starting from the weights of {start.path}")
        load_state(model, read_checkpoint(start.path)["state_dict"], start.path)
    with deferred():  # `StopOnSignal` saves first
        try:
            with failures_as_sentences(settings.stage):
                trainer.fit(model, datamodule=datamodule, ckpt_path=resume, weights_only=True)
        except MisconfigurationException as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"the Trainer refuses its settings (trainer.*): {reason}") from error
        if trainer.global_step == 0:
            raise ConfigError(
                f"stage={settings.stage}: training ended before its first step; give more of "
                "trainer.max_steps, max_epochs, max_time or limit_train_batches"
            )
        result = FitResult(trainer, checkpoint_policy(trainer).save_final(trainer))
        trainer.strategy.barrier("checkpoint saved")
    return result
