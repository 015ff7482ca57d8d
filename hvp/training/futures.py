"""Roll-outs of the test clips: base of the stages that train a structure generator.

`structure` predicts label maps, `svg_rgb` RGB; each has its own writer.

Shapes: B clips, S samples, T time; frames are (H, W) labels or (3, H, W) RGB.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import Subset

from hvp.clips import ClipBatch, ClipId, collate
from hvp.data.clip_dataset import ClipDataset
from hvp.errors import ConfigError
from hvp.structure.base import StructureGenerator
from hvp.training.estimate import check_space
from hvp.training.trained_stage import PredictionJob, PredictionRequest, TrainedStage


class FutureWriter(Protocol):
    """Writer of the futures of the test clips."""

    def done(self, clip: ClipId) -> bool:
        """Whether all futures of a clip are written."""
        ...

    def open(self, clips: Sequence[ClipId]) -> AbstractContextManager[Callable[[Tensor], None]]:
        """Open B clips; the context gives a function that appends frames (B, S, ...) uint8."""
        ...

    def close(self) -> None:
        """Finish the set; all clips must be written."""
        ...


class FutureStage(TrainedStage):
    """Stage that trains a structure generator and samples futures with it."""

    @abstractmethod
    def open_writer(self, request: PredictionRequest, model: StructureGenerator) -> FutureWriter:
        """Open the set of futures, resuming an unfinished one."""

    def check_space(self) -> None:
        """See `TrainedStage`; what is unknown until the data is prepared is stated then."""
        settings, data = self.settings, self.datamodule
        begun = any(settings.output_dir.glob(f"{self.type}-*"))
        if data.is_prepared and data.eval_clips and not begun:
            self._check_space(settings.output_dir, data.eval_clips)

    def _check_space(self, folder: Path, clips: Sequence[ClipId]) -> None:
        settings, data = self.settings, self.datamodule
        rules, channel = data.rules, self.channels[-1]
        example = data.data.read(channel, data.eval_clips[0], rules.n_past)
        n_samples, length = settings.data.n_samples, rules.n_past + rules.n_eval
        asked = (
            f"{settings.stage}: {len(clips):,} clips x {n_samples:,} samples x {length:,} frames"
        )
        check_space(asked, len(clips) * n_samples * length, folder, example)

    def open_predictions(self, request: PredictionRequest) -> PredictionJob:
        """See `TrainedStage`; an item is the context of a test clip."""
        settings, data, model = self.settings, self.datamodule, request.model
        if not isinstance(model, StructureGenerator):
            raise ConfigError(
                f"model.{settings.model.key}: {type(model).__name__} is no structure generator; "
                f"stage={settings.stage} needs a subclass of StructureGenerator"
            )
        if model.channel not in self.channels[-1:]:
            raise ConfigError(
                f"stage={settings.stage}: {type(model).__name__} predicts {model.channel}, not "
                f"{self.channels[-1]}; give a checkpoint of this stage's model"
            )
        n_past = data.rules.n_past
        if model.n_past != n_past:
            raise ConfigError(
                f"dataset.rules.n_past={n_past}: the model was trained with {model.n_past} context "
                f"frames; give dataset.rules.n_past={model.n_past}"
            )
        writer, clips = self.open_writer(request, model), data.eval_clips
        todo = [i for i, clip in enumerate(clips) if settings.force or not writer.done(clip)]
        if todo:
            self._check_space(request.folder, [clips[i] for i in todo])
        contexts = ClipDataset(data.data, clips, n_past, self.channels)
        step = FutureSampler(
            model, writer, data.rules.n_eval, settings.data.n_samples, settings.seed
        )
        batch_size = settings.model.eval_batch_size
        return PredictionJob(step, Subset(contexts, todo), batch_size, collate, writer.close)


class FutureSampler(pl.LightningModule):
    """Prediction step: roll out a batch of clips and write the futures frame by frame."""

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
        """Roll out the clips of `batch` (contexts); returns their number."""
        context_BT = self.model.clips_of(batch)
        with self.writer.open(batch.ids) as append:
            for frame_B in context_BT.unbind(1):
                append(frame_B.unsqueeze(1).expand(-1, self.n_samples, *frame_B.shape[1:]))
            futures = self.model.stream_futures(batch, self.horizon, self.n_samples, self.seed)
            for frame_BS in futures:
                append(frame_BS)
        return len(batch)
