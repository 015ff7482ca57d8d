"""Stage `svg_rgb`: pixel-space baseline; train SVG-LP on RGB, predict RGB of the test clips.

Shapes: B batch, S samples, H height, W width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from hvp.artifacts.store import ArtifactType
from hvp.artifacts.videos import TranslatedVideo, VideoHeader, VideoSetWriter
from hvp.clips import Channel, ClipId
from hvp.config.settings import training_settings
from hvp.structure.base import StructureGenerator
from hvp.training.futures import FutureStage, FutureWriter
from hvp.training.trained_stage import PredictionRequest


class PixelBaseline(FutureStage):
    """Pixel-space baseline: trains SVG-LP on RGB and predicts the test clips."""

    type = ArtifactType.VIDEOS
    channels: Sequence[Channel] = ("labels", "frames")

    def __init__(self, config: DictConfig) -> None:
        super().__init__(training_settings(config))

    def open_writer(self, request: PredictionRequest, model: StructureGenerator) -> FutureWriter:
        """Open the video set, resuming an unfinished one."""
        rules, settings = self.datamodule.rules, self.settings
        header = VideoHeader(
            predictions="",
            checkpoint_digest=request.checkpoint_digest,
            dataset=settings.dataset,
            settings_digest=request.settings_digest,
            size=self.datamodule.data.size,
            fps=settings.video_fps,
            seed=settings.seed,
        )
        videos = {
            clip: [
                TranslatedVideo(clip, rules.n_past, rules.n_eval, "sample", sample)
                for sample in range(settings.data.n_samples)
            ]
            for clip in self.datamodule.eval_clips
        }
        every = [video for of_clip in videos.values() for video in of_clip]
        return VideoFutures(
            VideoSetWriter(request.folder, header, every, anew=settings.force), videos
        )


class VideoFutures:
    """`FutureWriter` of RGB: one video of a video set per sample of a clip."""

    def __init__(self, writer: VideoSetWriter, videos: dict[ClipId, list[TranslatedVideo]]) -> None:
        self.writer = writer
        self.videos = videos

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
