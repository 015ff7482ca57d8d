"""Checkpoints: atomic writes, checksums, the last k and the best by a monitored metric.

A training has one checkpoint policy, the callback `CheckpointPolicy`; periodic saves, requeued jobs
and the end of a training all save through it.
"""

import math
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from hvp.errors import ConfigError
from hvp.files import atomic_path
from hvp.log import say
from hvp.torch_files import add_checksum, corruption

_FOLDER = "checkpoints"
_BEST = "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """CheckpointIO plugin: atomic writes (a file is complete and on disk, or does not exist), with
    a checksum of the whole file.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; `storage_options` are ignored."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)
            add_checksum(temporary)


class CheckpointPolicy(Checkpoint):
    """Checkpoint callback: when training saves, how many it keeps, which one is published.

    Args:
        every_n_batches: training batches between checkpoints, counted over epochs.
        keep: number of last checkpoints to keep; with more than one, a corrupt file costs only a
            few batches.
        monitor: validation metric (`val/...`) whose best checkpoint is published; None publishes
            the last one.
        mode: `min` or `max`, as in Lightning's ModelCheckpoint; needed with `monitor`.
    """

    def __init__(
        self,
        every_n_batches: int,
        keep: int,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        if monitor is not None and mode is None:
            raise ConfigError(
                f"callbacks.checkpoint.monitor={monitor}: which end of it is good? Give "
                "callbacks.checkpoint.mode=min or max"
            )
        self.every_n_batches = every_n_batches
        self.keep = keep
        self.monitor = monitor
        self.mode = mode
        self.best: float | None = None
        """Best value of `monitor` so far."""
        self._save_after_validation = False

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save every n batches; at the end of an epoch see `on_train_epoch_end`."""
        if not self._is_due(trainer) or trainer.is_last_batch:
            return
        # A validation that chooses what is published is not lost between the save and it.
        self._save_after_validation = self.monitor is not None and _validates_now(trainer)
        if not self._save_after_validation:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save at the end of an epoch if a save is due, after the learning-rate schedules."""
        if self._is_due(trainer) and trainer.is_last_batch:
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best checkpoint if the monitored metric improved."""
        if self.monitor is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = ", ".join(sorted(trainer.callback_metrics)) or "(none)"
            raise ConfigError(
                f"callbacks.checkpoint.monitor={self.monitor}: not measured at validation; choose "
                f"one of {known}, or null"
            )
        if self._is_better(float(value)):
            self.best = float(value)
            trainer.save_checkpoint(
                checkpoint_dir(_output_dir(trainer)) / _BEST, weights_only=False
            )
        if self._save_after_validation:
            self._save_after_validation = False
            self.save(trainer)

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value < self.best if self.mode == "min" else value > self.best

    def _is_due(self, trainer: pl.Trainer) -> bool:
        # The last batch is saved by `save_final`, with the metrics of the last validation.
        return _n_batches(trainer) % self.every_n_batches == 0 and not is_last_batch_of_training(
            trainer
        )

    def save(self, trainer: pl.Trainer) -> Path:
        """Save a checkpoint and delete all but the last `keep`; call on all ranks."""
        return _save(trainer, self.keep)

    def save_final(self, trainer: pl.Trainer) -> Path:
        """Save the final checkpoint; returns the one to publish. Call on all ranks."""
        last = _save(trainer, keep=1)
        self._forget_a_lost_best(trainer)
        if self.best is None:
            return last
        say(f"best {self.monitor}: {self.best:.6g}")
        return last.with_name(_BEST)

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Verify the best checkpoint of the part of the training before a resume."""
        self._forget_a_lost_best(trainer)

    def _forget_a_lost_best(self, trainer: pl.Trainer) -> None:
        """Have the best chosen anew from here on where its file is missing or corrupt."""
        if self.best is None:
            return
        path = checkpoint_dir(_output_dir(trainer)) / _BEST
        error = corruption(path) if trainer.is_global_zero else None
        error = trainer.strategy.broadcast(error)
        if error is not None:
            say(
                f"{path} is corrupt ({error}): the best {self.monitor} so far is lost; the best "
                "from here on counts, and without any the last checkpoint",
                "bold red",
            )
            self.best = None

    def state_dict(self) -> dict[str, Any]:
        """State of the callback in checkpoints."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the callback."""
        self.best = state_dict["best"]


def checkpoint_policy(trainer: pl.Trainer) -> CheckpointPolicy:
    """Checkpoint policy of a Trainer; by default one that saves only at the end."""
    found = [c for c in trainer.callbacks if isinstance(c, CheckpointPolicy)]  # type: ignore[attr-defined]
    return found[0] if found else CheckpointPolicy(every_n_batches=2**62, keep=2)


def is_last_batch_of_training(trainer: pl.Trainer) -> bool:
    """Whether the current training batch is the last of the training."""
    if trainer.should_stop:
        return True
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    last_epoch = trainer.max_epochs is not None and 0 < trainer.max_epochs <= (
        trainer.current_epoch + 1
    )
    return last_epoch and trainer.is_last_batch


def _validates_now(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the training batch that has just ended."""
    interval = trainer.val_check_batch
    if trainer.check_val_every_n_epoch is not None or not isinstance(interval, int):
        return False
    return trainer.enable_validation and _n_batches(trainer) % interval == 0


def _output_dir(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir)


def _save(trainer: pl.Trainer, keep: int) -> Path:
    folder = checkpoint_dir(_output_dir(trainer))
    path = folder / f"batch-{_n_batches(trainer):09d}.ckpt"
    trainer.save_checkpoint(path, weights_only=False)
    if trainer.is_global_zero:
        for old in sorted(folder.glob("batch-*.ckpt"))[:-keep]:
            old.unlink()
    return path


def _n_batches(trainer: pl.Trainer) -> int:
    return trainer.fit_loop.total_batch_idx + 1


def checkpoint_dir(output_dir: Path) -> Path:
    """Checkpoint directory of a run."""
    return output_dir / _FOLDER


def latest_intact(output_dir: Path) -> Path | None:
    """Find the latest checkpoint of a run that is not corrupt; None if there is none.

    Corrupt files are reported and skipped.
    """
    for path in sorted(checkpoint_dir(output_dir).glob("batch-*.ckpt"), reverse=True):
        error = corruption(path)
        if error is None:
            return path
        say(f"{path} is corrupt ({error}): leaving it out, looking for the one before", "bold red")
    return None
