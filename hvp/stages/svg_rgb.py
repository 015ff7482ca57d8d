"""Stage `svg_rgb`: the baseline without structure; train SVG-LP on RGB, predict the test clips.

Shapes: B batch, S samples, H height, W width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from torch import Tensor

from hvp.artifacts.store import ArtifactType
from hvp.artifacts.videos import TranslatedVideo, VideoHeader, VideoSetWriter
from hvp.clips import ClipId
from hvp.training.dataset import IMAGE_CHANNELS
from hvp.training.trained_stage import FutureStage, Plan


class VideoFutures:
    """The RGB of each clip, in one video per sample of a video set; see `FutureWriter`."""

    def __init__(self, plan: Plan) -> None:
        config, rules = plan.config, plan.datamodule.rules
        header = VideoHeader(
            predictions="",
            checkpoint_digest=plan.checkpoint_digest,
            dataset=config.dataset.name,
            settings_digest=plan.settings_digest,
            size=plan.datamodule.data.size,
            fps=config.evaluate.fps,
            seed=config.seed,
        )
        self.videos = {
            clip: [
                TranslatedVideo(clip, rules.n_past, rules.n_eval, "sample", sample)
                for sample in range(config.dataset.rollout.samples)
            ]
            for clip in plan.datamodule.eval_clips
        }
        videos = [video for of_clip in self.videos.values() for video in of_clip]
        self.writer = VideoSetWriter(plan.folder, header, videos)

    def done(self, clip: ClipId) -> bool:
        """See `FutureWriter`."""
        return all(map(self.writer.done, self.videos[clip]))

    @contextmanager
    def open(self, clips: Sequence[ClipId]) -> Iterator[Callable[[Tensor], None]]:
        """See `FutureWriter`; frames are RGB (B, S, 3, H, W)."""
        videos = [video for clip in clips for video in self.videos[clip]]
        with ExitStack() as stack:
            appends = [stack.enter_context(self.writer.open(video)) for video in videos]

            def append(frames_BS3HW: Tensor) -> None:
                frames = frames_BS3HW.flatten(0, 1).permute(0, 2, 3, 1).cpu().numpy()
                for append_to_video, frame in zip(appends, frames, strict=True):
                    append_to_video(np.ascontiguousarray(frame))

            yield append

    def close(self) -> None:
        """See `FutureWriter`."""
        self.writer.close()


_STAGE = FutureStage("svg_rgb", IMAGE_CHANNELS, ArtifactType.VIDEOS, VideoFutures)
run = _STAGE.run
find_published = _STAGE.find_published
