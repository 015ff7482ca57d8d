"""Stage `structure`: train the structure generator, then predict label maps of the test clips.

Shapes: B batch, S samples, H height, W width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from omegaconf import DictConfig
from torch import Tensor

from hvp.artifacts.predictions import PredictedClip, PredictionHeader, PredictionSetWriter
from hvp.artifacts.store import ArtifactType
from hvp.clips import Channel, ClipId
from hvp.config.settings import training_settings
from hvp.structure.base import StructureGenerator
from hvp.training.futures import FutureStage, FutureWriter
from hvp.training.trained_stage import PredictionRequest


class Structure(FutureStage):
    """Stage one: trains a structure generator and predicts label maps of the test clips."""

    type = ArtifactType.PREDICTIONS
    channels: Sequence[Channel] = ("labels",)

    def __init__(self, config: DictConfig) -> None:
        super().__init__(training_settings(config))

    def open_writer(self, request: PredictionRequest, model: StructureGenerator) -> FutureWriter:
        """Open the prediction set, resuming an unfinished one."""
        data, rules, settings = self.datamodule.data, self.datamodule.rules, self.settings
        n_samples = settings.data.n_samples
        header = PredictionHeader(
            dataset=settings.dataset,
            dataset_digest=data.digest,
            label_space=data.label_space,
            size=data.size,
            frame_step=rules.step,
            checkpoint_digest=request.checkpoint_digest,
            sampling={"samples": n_samples, **model.sampling},
            seed=settings.seed,
        )
        clips = {
            clip: PredictedClip(clip, rules.n_past, rules.n_eval, n_samples)
            for clip in self.datamodule.eval_clips
        }
        return LabelFutures(
            PredictionSetWriter(request.folder, header, list(clips.values())), clips
        )


class LabelFutures:
    """`FutureWriter` of label maps: one file of a prediction set per clip."""

    def __init__(self, writer: PredictionSetWriter, clips: dict[ClipId, PredictedClip]) -> None:
        self.writer = writer
        self.clips = clips

    def done(self, clip: ClipId) -> bool:
        """See `FutureWriter`."""
        return self.writer.done(self.clips[clip])

    @contextmanager
    def open(self, clips: Sequence[ClipId]) -> Iterator[Callable[[Tensor], None]]:
        """See `FutureWriter`; frames are label maps (B, S, H, W)."""
        with ExitStack() as stack:
            appends = [stack.enter_context(self.writer.open(self.clips[clip])) for clip in clips]

            def append(labels_BSHW: Tensor) -> None:
                frames = labels_BSHW.cpu().numpy()
                for append_to_clip, frames_SHW in zip(appends, frames, strict=True):
                    append_to_clip(frames_SHW)

            yield append

    def close(self) -> None:
        """See `FutureWriter`."""
        self.writer.close()
