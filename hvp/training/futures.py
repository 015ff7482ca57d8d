"""Futures: the stages of a structure generator sample futures of the test clips.

`structure` does so with label maps, `svg_rgb` with RGB; each says how they are written.

Shapes: B clips, S samples, T time; frames are (H, W) labels or (3, H, W) RGB.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import Subset

from hvp.clips import ClipBatch, ClipId, collate
from hvp.data.clip_dataset import ClipDataset
from hvp.errors import ConfigError
from hvp.structure.base import StructureGenerator
from hvp.training.trained_stage import PredictionJob, PredictionRequest, TrainedStage


class FutureWriter(Protocol):
    """Where the futures of the test clips are written."""

    def done(self, clip: ClipId) -> bool:
        """Whether all futures of a clip lie there."""
        ...

    def open(self, clips: Sequence[ClipId]) -> AbstractContextManager[Callable[[Tensor], None]]:
        """The function that appends the next frame (B, S, ...) uint8 of all futures of B clips."""
        ...

    def close(self) -> None:
        """End the set, which is complete now."""
        ...


class FutureStage(TrainedStage):
    """Stage that trains a structure generator and samples futures with it."""

    @abstractmethod
    def open_writer(self, request: PredictionRequest, model: StructureGenerator) -> FutureWriter:
        """Open the set of futures, or go on with the one that was begun."""

    def open_predictions(self, request: PredictionRequest) -> PredictionJob:
        """See `TrainedStage`; an item is a batch of test clips, their context."""
        settings, data, model = self.settings, self.datamodule, request.model
        if not isinstance(model, StructureGenerator):
            raise ConfigError(
                f"model.{settings.model.key}: {type(model).__name__} is no structure generator; "
                f"stage={settings.stage} needs a subclass of StructureGenerator"
            )
        n_past = data.rules.n_past
        if model.n_past != n_past:
            raise ConfigError(
                f"dataset.rules.n_past={n_past}: the model was trained with {model.n_past} context "
                f"frames; give dataset.rules.n_past={model.n_past}"
            )
        writer, clips = self.open_writer(request, model), data.eval_clips
        todo = [i for i, clip in enumerate(clips) if settings.force or not writer.done(clip)]
        contexts = ClipDataset(data.data, clips, n_past, self.channels)
        step = FutureSampler(
            model, writer, data.rules.n_eval, settings.data.n_samples, settings.seed
        )
        batch_size = settings.model.eval_batch_size
        return PredictionJob(step, Subset(contexts, todo), batch_size, collate, writer.close)


class FutureSampler(pl.LightningModule):
    """Prediction step: sample the futures of a batch of clips and write them frame by frame."""

    def __init__(
        self,
        model: StructureGenerator,
        writer: FutureWriter,
        horizon: int,
        n_samples: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.writer = writer
        self.horizon = horizon
        self.n_samples = n_samples
        self.seed = seed

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> int:
        """Roll out every clip of `batch`, which holds the context; returns how many."""
        context_BT = self.model.clips_of(batch)
        with self.writer.open(batch.ids) as append:
            for frame_B in context_BT.unbind(1):
                append(frame_B.unsqueeze(1).expand(-1, self.n_samples, *frame_B.shape[1:]))
            futures = self.model.stream_futures(batch, self.horizon, self.n_samples, self.seed)
            for frame_BS in futures:
                append(frame_BS)
        return len(batch)
