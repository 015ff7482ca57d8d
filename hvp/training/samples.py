"""Callback that shows what the model makes of a few validation clips, after every validation.

Shapes: B clips, S samples, T time, H height, W width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from hvp.clips import ClipBatch, collate
from hvp.data.datamodule import ClipDataModule, ClipDataset
from hvp.image.vid2vid.module import ImageModule
from hvp.image.vid2vid.translate import translate
from hvp.metrics.segmentation import HorizonIoU
from hvp.reporting.loggers import (
    log_confusion,
    log_curves,
    log_rows,
    log_scalars,
    trainer_loggers,
)
from hvp.reporting.panels import ClipPanel, Stream, write_panel
from hvp.reporting.plots import Line
from hvp.structure.svg_lp.module import StructureModule
from hvp.structure.svg_lp.rgb import PixelModule

_COLOUR = "#3b82f6"  # of the curves


class ValidationSamples(Callback):
    """Samples futures of validation clips (stage one), or translates their labels (stage two).

    The same clips with the same noise every time. Stage one logs mIoU and pixel accuracy of the
    futures, their curves over the horizon, the confusion matrix and the videos; stage two the
    videos. Videos are `<dirpath>/<n>.mp4`, those of the last validation. Runs on rank zero.

    Args:
        dirpath: where the videos are written.
        clips: how many validation clips; 0 switches the callback off.
        samples: futures per clip.
        fps: frames per second of the videos.
        seed: seed of the futures' noise.
    """

    def __init__(self, dirpath: str, clips: int, samples: int, fps: float, seed: int) -> None:
        self.dirpath = Path(dirpath)
        self.clips = clips
        self.samples = samples
        self.fps = fps
        self.seed = seed

    @torch.no_grad()
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the clips and log what came out."""
        data: Any = getattr(trainer, "datamodule", None)
        if self.clips < 1 or not trainer.is_global_zero or data is None or trainer.sanity_checking:
            return
        batch = _first_clips(data, self.clips).to(pl_module.device)
        if isinstance(pl_module, PixelModule):
            return  # the baseline on RGB has no label maps to score
        if isinstance(pl_module, StructureModule):
            self._structure(trainer, pl_module, data, batch)
        elif isinstance(pl_module, ImageModule):
            self._image(trainer, pl_module, data, batch)

    def _structure(
        self, trainer: pl.Trainer, module: StructureModule, data: ClipDataModule, batch: ClipBatch
    ) -> None:
        n_past, space = data.rules.n_past, data.label_space
        labels_BTHW = batch.labels_BTHW.cpu()
        horizon = labels_BTHW.shape[1] - n_past
        samples_BSTHW = module.sample_futures(batch, horizon, self.samples, self.seed)
        metric = HorizonIoU(space.n_classes, horizon, sync_on_compute=False)
        best = []
        for samples_STHW, truth_THW in zip(samples_BSTHW, labels_BTHW, strict=True):
            metric.update(samples_STHW[:, n_past:], truth_THW[n_past:])
            assert metric.last_clip is not None
            best.append(metric.last_clip.best[0])
        scores = metric.compute()
        loggers, step = trainer_loggers(trainer), trainer.global_step
        values = {
            "val/miou": scores.miou.mean.mean(),
            "val/miou_best": scores.miou.best.mean(),
            "val/pixel_accuracy": scores.pixel_accuracy.mean.mean(),
        }
        log_scalars(loggers, {name: float(value) for name, value in values.items()}, step)
        # For callbacks that follow and for the checkpoint's metadata; Lightning logs no more here.
        tensors = {name: torch.tensor(float(value)) for name, value in values.items()}
        trainer.callback_metrics.update(tensors)
        for name, title, curve in (
            ("miou", "mIoU", scores.miou),
            ("pixel_accuracy", "pixel accuracy", scores.pixel_accuracy),
        ):
            end = len(curve.mean)
            steps = np.arange(1, end + 1)
            lines = [
                Line(steps, curve.mean, f"mean of {self.samples}", _COLOUR, end),
                Line(steps, curve.best, f"best of {self.samples}", _COLOUR, end, dashed=True),
            ]
            log_curves(loggers, f"horizon/{name}", title, lines, None, step)
        confusion = metric.confusion.numpy()
        log_confusion(loggers, "confusion/validation", confusion, space.classes, step)
        panels = [
            ClipPanel.arrange(
                str(identity),
                Stream(truth_THW.numpy()),
                [Stream(sample_THW.numpy()) for sample_THW in samples_STHW],
                best[row],
            )
            for row, (identity, truth_THW, samples_STHW) in enumerate(
                zip(batch.ids, labels_BTHW, samples_BSTHW, strict=True)
            )
        ]
        self._show(trainer, data, panels, n_past, horizon)

    def _image(
        self, trainer: pl.Trainer, module: ImageModule, data: ClipDataModule, batch: ClipBatch
    ) -> None:
        assert batch.frames_BT3HW is not None
        n_past = data.rules.n_past
        context_BT3HW = batch.frames_BT3HW[:, :n_past]
        was_training = module.generator.training
        future = translate(
            module.generator,
            batch.labels_BTHW[:, n_past:].unbind(1),
            batch.labels_BTHW[:, :n_past],
            context_BT3HW,
        )
        frames_BT3HW = torch.stack([*context_BT3HW.cpu().unbind(1), *future], dim=1)
        module.generator.train(was_training)
        truth_BT3HW = batch.frames_BT3HW.cpu()
        labels_BTHW = batch.labels_BTHW.cpu()
        panels = [
            ClipPanel(
                str(identity),
                ("ground truth", "translated"),
                (
                    Stream(labels_BTHW[row].numpy(), _pictures(truth_BT3HW[row])),
                    Stream(labels_BTHW[row].numpy(), _pictures(frames_BT3HW[row])),
                ),
            )
            for row, identity in enumerate(batch.ids)
        ]
        self._show(trainer, data, panels, n_past, labels_BTHW.shape[1] - n_past)

    def _show(
        self,
        trainer: pl.Trainer,
        data: ClipDataModule,
        panels: Sequence[ClipPanel],
        n_past: int,
        horizon: int,
    ) -> None:
        rows = []
        for number, panel in enumerate(panels):
            path = self.dirpath / f"{number}.mp4"
            write_panel(path, panel, data.label_space, n_past, horizon, horizon, self.fps)
            rows.append({"clip": panel.name, " | ".join(panels[0].titles): path})
        log_rows(trainer_loggers(trainer), "samples/validation", rows, trainer.global_step)


def _first_clips(data: ClipDataModule, count: int) -> ClipBatch:
    """Evenly spread validation clips, as one batch."""
    dataset = data.val_dataloader().dataset
    assert isinstance(dataset, ClipDataset)
    count = min(count, len(dataset))
    return collate([dataset[i * len(dataset) // count] for i in range(count)])


def _pictures(frames_T3HW: Tensor) -> Any:
    return frames_T3HW.permute(0, 2, 3, 1).numpy()
