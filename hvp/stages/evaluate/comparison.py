"""What stage `evaluate` compares: predictions, baselines and ground truth of the same clips."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hvp.artifacts.predictions import PredictedClip
from hvp.artifacts.store import Artifact
from hvp.clips import Channel, ClipId
from hvp.data.packed import PreparedDataset
from hvp.evaluation.curves import IMAGE_MODEL, STRUCTURE_MODEL, SVG_RGB
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.reconstruction import Reconstructor
from hvp.evaluation.results import NotComputed
from hvp.evaluation.streams import Clip, Stream
from hvp.reporting.panels import ClipPanel
from hvp.reporting.panels import Stream as PanelStream

Videos = Callable[[PredictedClip], Sequence[Stream]]
"""The videos of a clip, context first; each is opened when it is asked for."""


@dataclass(frozen=True)
class Inputs:
    """The artifacts that an evaluation names."""

    predictions: Artifact | None
    """Label predictions; None where a folder is evaluated."""
    videos: Artifact | None
    svg_rgb: Artifact | None

    @property
    def references(self) -> tuple[str, ...]:
        """All of them, as references with version."""
        return tuple(a.reference for a in (self.predictions, self.videos, self.svg_rgb) if a)


@dataclass(frozen=True)
class Material:
    """What is compared."""

    data: PreparedDataset
    clips: list[PredictedClip]
    protocol: Protocol
    labels: Videos | None
    """Predicted label maps."""
    frames: Videos | None
    """Predicted RGB."""
    label_baselines: dict[str, Videos] = field(default_factory=dict)
    frame_baselines: dict[str, Videos] = field(default_factory=dict)
    reconstructor: Reconstructor | None = None
    missing: tuple[NotComputed, ...] = ()
    """Baselines that there are none of, and how to get them."""

    @property
    def measured(self) -> int:
        """The predicted steps of the clip that has the most recorded frames."""
        longest = max(
            self.data.recorded_length(ClipId(clip.recording, clip.first, clip.step), clip.length)
            for clip in self.clips
        )
        return longest - self.protocol.context

    def label_clips(self) -> Iterator[Clip]:
        """The label maps of each clip."""
        assert self.labels is not None
        yield from self._clips("labels", STRUCTURE_MODEL, self.labels, self.label_baselines)

    def image_clips(self) -> Iterator[Clip]:
        """The RGB of each clip."""
        assert self.frames is not None
        yield from self._clips("frames", IMAGE_MODEL, self.frames, self.frame_baselines)

    def _clips(
        self, channel: Channel, model: str, videos: Videos, baselines: dict[str, Videos]
    ) -> Iterator[Clip]:
        for clip in self.clips:
            systems = {model: videos(clip)}
            for name, of_clip in baselines.items():
                if streams := of_clip(clip):
                    systems[name] = streams
            yield Clip(clip.id, self.truth(channel, clip), systems)

    def truth(self, channel: Channel, clip: PredictedClip) -> Iterator[np.ndarray]:
        """Ground truth, a frame at a time: labels (H, W) or RGB (H, W, 3) uint8."""
        return self.data.stream(channel, ClipId(clip.recording, clip.first, clip.step), clip.length)

    def panel(self, clip: PredictedClip, best: int) -> ClipPanel:
        """The report's video of one clip; `best` is the sample shown first."""
        n_samples = self.protocol.n_samples
        nothing = [None] * n_samples
        labels = nothing if self.labels is None else self.labels(clip)
        frames = nothing if self.frames is None else self.frames(clip)
        svg_rgb = self.frame_baselines.get(SVG_RGB)
        return ClipPanel.arrange(
            clip.id,
            PanelStream(
                None if self.labels is None else self.truth("labels", clip),
                None if self.frames is None else self.truth("frames", clip),
            ),
            [PanelStream(*pair) for pair in zip(labels, frames, strict=True)],
            best,
            baselines={SVG_RGB: PanelStream(frames=svg_rgb(clip)[0])} if svg_rgb else None,
        )
