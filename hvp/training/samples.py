"""Callback that logs validation previews: scores, horizon curves and videos of a few clips."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from hvp.clips import ClipBatch, collate
from hvp.data.clip_dataset import ClipDataset
from hvp.data.datamodule import ClipDataModule
from hvp.model import Model
from hvp.preview import ClipPreview, Preview
from hvp.reporting.loggers import (
    log_confusion,
    log_curves,
    log_rows,
    log_scalars,
    trainer_loggers,
)
from hvp.reporting.panels import ClipPanel, Stream, write_clip_videos
from hvp.reporting.plots import Line

_COLOUR = "#3b82f6"  # of the curves


class ValidationSamples(Callback):
    """Validation preview callback: logs scores, curves over the horizon and videos of some clips.

    Same clips and noise at every validation. Videos are `<dirpath>/<n>.mp4`, overwritten each time.
    All ranks compute the preview and know its scores; rank zero logs.

    Args:
        dirpath: directory of the videos.
        clips: number of validation clips; 0 switches the callback off.
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
        """Compute the preview and log it."""
        data: Any = getattr(trainer, "datamodule", None)
        if self.clips < 1 or data is None or trainer.sanity_checking:
            return
        assert isinstance(pl_module, Model)
        batch = _first_clips(data, self.clips).to(pl_module.device)
        # On every rank: a sharded model needs all ranks for a forward pass.
        preview = pl_module.preview(batch, data.label_space, self.samples, self.seed)
        scores = {f"val/{name}": value for name, value in preview.scalars.items()}
        # For later callbacks (sweeps, best checkpoint) and the checkpoint's metadata: `log` is not
        # available in this hook.
        trainer.callback_metrics.update({name: torch.tensor(v) for name, v in scores.items()})
        if trainer.is_global_zero:
            self._log(trainer, data, preview, scores)

    def _log(
        self,
        trainer: pl.Trainer,
        data: ClipDataModule,
        preview: Preview,
        scores: Mapping[str, float],
    ) -> None:
        loggers, step = trainer_loggers(trainer), trainer.global_step
        log_scalars(loggers, scores, step)
        for name, found in preview.horizon.items():
            log_curves(loggers, f"horizon/{name}", found.title, _lines(found.lines), None, step)
        if preview.confusion is not None:
            classes = data.label_space.classes
            log_confusion(loggers, "confusion/validation", preview.confusion, classes, step)
        self._log_videos(trainer, data, preview)

    def _log_videos(self, trainer: pl.Trainer, data: ClipDataModule, preview: Preview) -> None:
        if not preview.clips:
            return
        horizon = _n_frames(preview.clips[0]) - preview.context
        panels = map(_panel, preview.clips)
        videos = write_clip_videos(
            self.dirpath, panels, data.label_space, preview.context, horizon, horizon, self.fps
        )
        titles = " | ".join(column.title for column in preview.clips[0].columns)
        rows = [{"clip": video.name, titles: video.path} for video in videos]
        log_rows(trainer_loggers(trainer), "samples/validation", rows, trainer.global_step)


def _first_clips(data: ClipDataModule, count: int) -> ClipBatch:
    """Evenly spread validation clips, as one batch."""
    dataset = data.val_dataloader().dataset
    assert isinstance(dataset, ClipDataset)
    count = min(count, len(dataset))
    return collate([dataset[i * len(dataset) // count] for i in range(count)])


def _lines(values: Mapping[str, np.ndarray]) -> Sequence[Line]:
    """Curves of a figure, one per aggregate; those of the best sample are dashed."""
    return [
        Line(
            np.arange(1, len(scores) + 1),
            scores,
            label,
            _COLOUR,
            len(scores),
            dashed=label.startswith("best"),
        )
        for label, scores in values.items()
    ]


def _panel(clip: ClipPreview) -> ClipPanel:
    streams = tuple(Stream(column.labels_THW, column.frames_THW3) for column in clip.columns)
    return ClipPanel(clip.name, tuple(column.title for column in clip.columns), streams)


def _n_frames(clip: ClipPreview) -> int:
    first = clip.columns[0]
    frames = first.labels_THW if first.labels_THW is not None else first.frames_THW3
    assert frames is not None
    return len(frames)
