"""Checkpoints to resume from: written atomically, checked before use, the last few kept."""

import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from hvp.files import atomic_path
from hvp.log import say

_FOLDER = "checkpoints"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint files that are either complete, and on disk, or not there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint` to `path`; `storage_options` are of other storages and not used."""
        with atomic_path(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class TrainingCheckpoints(Checkpoint):
    """Saves a checkpoint every `every_n_batches` training batches, and keeps the last few."""

    def __init__(self, every_n_batches: int, keep: int) -> None:
        """Args:
        every_n_batches: training batches from one checkpoint to the next, counted over epochs.
        keep: how many to keep; with more than one, a corrupt file costs only a few batches.
        """
        self.every_n_batches = every_n_batches
        self.keep = keep

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if it is time. The end of an epoch has its own hook, after its schedules."""
        if self._due(trainer) and not trainer.is_last_batch:
            save(trainer, self.keep)

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save if it is time and the epoch is complete."""
        if self._due(trainer) and trainer.is_last_batch:
            save(trainer, self.keep)

    def _due(self, trainer: pl.Trainer) -> bool:
        return _n_batches(trainer) % self.every_n_batches == 0


def save(trainer: pl.Trainer, keep: int) -> Path:
    """Save a checkpoint in the run's folder (called by all ranks); all but `keep` are removed."""
    folder = folder_of(Path(trainer.default_root_dir))
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
