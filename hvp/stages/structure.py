"""Stage `structure`: train the structure generator, then predict label maps of the test clips.

Shapes: B batch, S samples, H height, W width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor

from hvp.artifacts.predictions import PredictedClip, PredictionHeader, PredictionSetWriter
from hvp.artifacts.store import ArtifactType
from hvp.clips import ClipId
from hvp.training.dataset import STRUCTURE_CHANNELS
from hvp.training.trained_stage import FutureStage, Plan


class LabelFutures:
    """The label maps of each clip, in one file of a prediction set; see `FutureWriter`."""

    def __init__(self, plan: Plan) -> None:
        config, data, rules = plan.config, plan.datamodule.data, plan.datamodule.rules
        rollout = config.dataset.rollout
        header = PredictionHeader(
            dataset=config.dataset.name,
            dataset_digest=data.digest,
            label_space=data.label_space,
            size=data.size,
            frame_step=rules.step,
            checkpoint_digest=plan.checkpoint_digest,
            sampling={"samples": rollout.samples, "skip": rollout.skip},
            seed=config.seed,
        )
        self.clips = {
            clip: PredictedClip(clip, rules.n_past, rules.n_eval, rollout.samples)
            for clip in plan.datamodule.eval_clips
        }
        self.writer = PredictionSetWriter(plan.folder, header, list(self.clips.values()))

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


_STAGE = FutureStage("structure", STRUCTURE_CHANNELS, ArtifactType.PREDICTIONS, LabelFutures)
run = _STAGE.run
find_published = _STAGE.find_published
