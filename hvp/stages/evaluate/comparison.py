"""Comparison: videos of model, baselines and ground truth for the same clips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hvp.artifacts.predictions import PredictedClip
from hvp.clips import Channel
from hvp.data.packed import PreparedDataset
from hvp.errors import ConfigError
from hvp.evaluation.measure import Measure
from hvp.evaluation.missing import Missing, Unavailable
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.streams import Clip, Stream
from hvp.evaluation.systems import MODELS, SVG_RGB
from hvp.reporting.panels import ClipPanel
from hvp.reporting.panels import Stream as Column

_CHANNELS: tuple[Channel, ...] = ("labels", "frames")

Videos = Callable[[PredictedClip], Sequence[Stream]]
"""Function that opens the videos of a clip, context first."""


@dataclass(frozen=True)
class Comparison:
    """Videos that an evaluation compares: model, baselines and ground truth."""

    data: PreparedDataset
    clips: list[PredictedClip]
    protocol: Protocol
    systems: Mapping[Channel, Mapping[str, Videos]]
    """For each predicted channel the videos by system, evaluated model first, then baselines."""
    load_model: Callable[[], object]
    """Loads the structure generator of the predictions; raises `Unavailable`."""
    absent: Mapping[Channel, Unavailable] = field(default_factory=dict)
    """Channels without predictions, with the reason."""
    missing: tuple[Missing, ...] = ()
    """Baselines that are missing, each with the command that makes it."""

    @property
    def n_measured_steps(self) -> int:
        """Number of predicted steps with ground truth, of the longest clip."""
        longest = max(self.data.recorded_length(clip.clip, clip.length) for clip in self.clips)
        return longest - self.protocol.context

    def with_baseline(self, channel: Channel, system: str, videos: Videos) -> "Comparison":
        """Copy with one more system."""
        of_channel = {**self.systems[channel], system: videos}
        return replace(self, systems={**self.systems, channel: of_channel})

    def with_missing(self, missing: Missing) -> "Comparison":
        """Copy with one more missing baseline."""
        return replace(self, missing=(*self.missing, missing))

    def clips_of(self, channel: Channel, measures: Sequence[Measure]) -> Iterator[Clip]:
        """Label maps or RGB of each clip, with the baselines that the measures add; streamed."""
        for clip in self.clips:
            found = {name: of_clip(clip) for name, of_clip in self.systems[channel].items()}
            systems = {name: videos for name, videos in found.items() if videos}
            for measure in measures:
                added = measure.baselines(clip.clip, self.truth(channel, clip))
                if clash := sorted({*added} & {*systems}):
                    raise ConfigError(
                        f"{type(measure).__name__}.baselines: {clash[0]} is the name of another "
                        "system; give the baseline a name of its own"
                    )
                systems |= {name: [stream] for name, stream in added.items()}
            yield Clip(clip.id, self.truth(channel, clip), systems)

    def truth(self, channel: Channel, clip: PredictedClip) -> Iterator[np.ndarray]:
        """Stream the ground truth: labels (H, W) or RGB (H, W, 3) uint8."""
        return self.data.stream(channel, clip.clip, clip.length)

    def panel(self, clip: PredictedClip, best: int) -> ClipPanel:
        """Panel video of one clip; `best` is the sample shown first."""
        nothing = [None] * self.protocol.n_samples
        labels, frames = (
            self.systems[channel][MODELS[channel]](clip) if channel in self.systems else nothing
            for channel in _CHANNELS
        )
        svg_rgb = self.systems.get("frames", {}).get(SVG_RGB)
        return ClipPanel.arrange(
            clip.id,
            Column(*(self.truth(c, clip) if c in self.systems else None for c in _CHANNELS)),
            [Column(*pair) for pair in zip(labels, frames, strict=True)],
            best,
            baselines={SVG_RGB: Column(frames=svg_rgb(clip)[0])} if svg_rgb else None,
        )
