"""Callbacks: throughput and gradient norms."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from hvp.clips import ClipBatch


class Throughput(Callback):
    """Throughput callback: logs `speed/clips` and `speed/frames` per second, over all devices.

    Wall time between two logged steps, data loading included, validation excluded. Frames are those
    of whole clips, even if a model trains on a window of them.
    """

    def __init__(self) -> None:
        self._clips = self._frames = 0
        self._since: float | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock with the first batch."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock during validation."""
        self._reset()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ClipBatch,
        batch_idx: int,
    ) -> None:
        """Count the batch; every `log_every_n_steps` batches, log the rates."""
        n_clips, n_frames = batch.labels_BTHW.shape[:2]
        self._clips += n_clips
        self._frames += n_clips * n_frames
        if not is_logged_step(trainer) or self._since is None:
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # wait for queued kernels
        scale = trainer.world_size / (time.perf_counter() - self._since)
        for name, count in (("clips", self._clips), ("frames", self._frames)):
            pl_module.log(f"speed/{name}", count * scale, batch_size=n_clips)
        self._reset()
        self._since = time.perf_counter()

    def _reset(self) -> None:
        self._clips = self._frames = 0
        self._since = None


class GradientNorm(Callback):
    """Gradient norm callback: logs the norm per optimizer, before clipping.

    One optimizer logs `gradient_norm`, several log `gradient_norm/0`, `gradient_norm/1`, ...
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Compute and log the norm on the steps that are logged."""
        if not is_logged_step(trainer):
            return
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if not gradients:
            return
        name = "gradient_norm"
        if len(trainer.optimizers) > 1:
            name += f"/{trainer.optimizers.index(optimizer)}"
        norm = torch.nn.utils.get_total_norm(gradients)
        # With trainer=fsdp gradients are sharded.
        pl_module.log(name, norm.full_tensor() if isinstance(norm, DTensor) else norm)


def is_logged_step(trainer: pl.Trainer) -> bool:
    """Whether Lightning will log the metrics of the current batch."""
    return trainer._logger_connector.should_update_logs
