"""Checkpoints: written atomically, checked before use, the last few kept, the best published.

A training has one policy, the callback `CheckpointPolicy`; whoever saves (the callback itself, a
requeued job, the end of a training) saves through it.
"""

import math
import zipfile
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from hvp.errors import ConfigError
from hvp.files import atomic_path
from hvp.log import say

_FOLDER = "checkpoints"
_BEST = "best.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are either complete, and on disk, or not there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; `storage_options` are of other storages and not used."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class CheckpointPolicy(Checkpoint):
    """Checkpoint policy: when training saves, how many it keeps, which one is published.

    Args:
        every_n_batches: training batches from one checkpoint to the next, counted over epochs.
        keep: how many to keep; with more than one, a corrupt file costs only a few batches.
        monitor: metric of the validations (`val/...`) whose best checkpoint is published; None
            publishes the last one.
        mode: which end of it is good: `min` or `max`.
    """

    def __init__(
        self,
        every_n_batches: int,
        keep: int,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        self.every_n_batches = every_n_batches
        self.keep = keep
        self.monitor = monitor
        self.mode = mode
        self.best: float | None = None
        """The best value of `monitor` until now."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if it is time. The end of an epoch has its own hook, after its schedules."""
        if self._due(trainer) and not trainer.is_last_batch:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if it is time and the epoch is complete."""
        if self._due(trainer) and trainer.is_last_batch:
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the best checkpoint, if that is what this validation has seen."""
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
            trainer.save_checkpoint(folder_of(_output_dir(trainer)) / _BEST, weights_only=False)

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        return value < self.best if self.mode == "min" else value > self.best

    def _due(self, trainer: pl.Trainer) -> bool:
        # What ends the training is saved by `finish`, with the metrics of its last validation.
        return _n_batches(trainer) % self.every_n_batches == 0 and not is_ending(trainer)

    def save(self, trainer: pl.Trainer) -> Path:
        """Save a checkpoint to go on from (called by all ranks); all but `keep` are removed."""
        return _save(trainer, self.keep)

    def finish(self, trainer: pl.Trainer) -> Path:
        """The checkpoint to publish when training has ended (called by all ranks)."""
        last = _save(trainer, keep=1)
        return last if self.best is None else last.with_name(_BEST)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the policy."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.best = state_dict["best"]


def policy_of(trainer: pl.Trainer) -> CheckpointPolicy:
    """The policy of a training; one that only saves at the end where none is configured."""
    found = [c for c in trainer.callbacks if isinstance(c, CheckpointPolicy)]  # type: ignore[attr-defined]
    return found[0] if found else CheckpointPolicy(every_n_batches=2**62, keep=2)


def is_ending(trainer: pl.Trainer) -> bool:
    """Whether the training batch that has just been trained on is the last one."""
    if trainer.should_stop:
        return True
    if 0 <= trainer.max_steps <= trainer.global_step:
        return True
    last_epoch = trainer.max_epochs is not None and 0 < trainer.max_epochs <= (
        trainer.current_epoch + 1
    )
    return last_epoch and trainer.is_last_batch


def _output_dir(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir)


def _save(trainer: pl.Trainer, keep: int) -> Path:
    folder = folder_of(_output_dir(trainer))
    path = folder / f"batch-{_n_batches(trainer):09d}.ckpt"
    trainer.save_checkpoint(path, weights_only=False)
    if trainer.is_global_zero:
        for old in sorted(folder.glob("batch-*.ckpt"))[:-keep]:
            old.unlink()
    return path


def _n_batches(trainer: pl.Trainer) -> int:
    return trainer.fit_loop.total_batch_idx + 1


def folder_of(output_dir: Path) -> Path:
    """Where the run with this output directory keeps its checkpoints."""
    return output_dir / _FOLDER


def newest_good(output_dir: Path) -> Path | None:
    """The newest checkpoint of a run that is not corrupt; says which ones are.

    None if the run has none.
    """
    for path in sorted(folder_of(output_dir).glob("batch-*.ckpt"), reverse=True):
        flaw = _flaw(path)
        if flaw is None:
            return path
        say(f"{path} is corrupt ({flaw}): leaving it out, looking for the one before", "bold red")
    return None


def _flaw(path: Path) -> str | None:
    """What is wrong with a checkpoint's bytes: a zip file, in which every part has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return str(error)
    return None if part is None else f"checksum of {part}"
