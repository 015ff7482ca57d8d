"""Readers of the synthetic worlds: recordings rendered on demand, nothing to download."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from hvp.clips import Channel
from hvp.data.readers.base import Recording, Skip, Split
from hvp.labels import CITYSCAPES, DENSEPOSE, LabelSpace, Size
from hvp.worlds.driving import world as driving
from hvp.worlds.seeds import named_seed
from hvp.worlds.walker import world as walker


class WorldReader(ABC):
    """Base reader of the synthetic worlds; a subclass adds the rendering and its digest."""

    name: str
    world: ClassVar[str]
    """World name; prefix of the recordings' names."""
    label_space: LabelSpace
    channels: ClassVar[tuple[Channel, ...]]

    def __init__(
        self,
        n_train: int,
        n_val: int,
        n_test: int,
        frames_per_recording: int,
        frame_rate: float,
        seed: int = 0,
    ) -> None:
        """Args:
        n_train: training recordings.
        n_val: validation recordings.
        n_test: test recordings.
        frames_per_recording: frames of every recording.
        frame_rate: frame rate in Hz.
        seed: random seed; a recording's own seed derives from it and the recording's name.
        """
        self.counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        self.frames_per_recording = frames_per_recording
        self.frame_rate = frame_rate
        self.seed = seed

    @abstractmethod
    def _draw(self, seed: int, size: Size) -> Iterator[dict[Channel, np.ndarray]]:
        """Endless frame iterator of one recording."""

    @abstractmethod
    def _digest(self) -> str:
        """Digest of the world's settings and code version."""

    def settings(self) -> dict[str, Any]:
        """Settings that determine the rendered frames, as plain JSON values."""
        return {
            "reader": self.name,
            "world": self.world,
            "world_digest": self._digest(),
            "label_space": asdict(self.label_space),
            "counts": dict(self.counts),
            "frames_per_recording": self.frames_per_recording,
            "frame_rate": self.frame_rate,
            "seed": self.seed,
        }

    def recordings(self) -> list[Recording]:
        """All recordings: train, val, test."""
        return [
            Recording(
                f"{self.world}-{split}-{index:04d}",
                split,
                self.frames_per_recording,
                self.channels,
            )
            for split, count in self.counts.items()
            for index in range(count)
        ]

    def skipped(self) -> list[Skip]:
        """None: a world excludes nothing."""
        return []

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        """Frame iterator, rendered at `size`; see `hvp.data.readers.base.Reader`."""
        frames = self._draw(named_seed(self.seed, recording.name), size)
        for drawn in islice(frames, recording.n_frames):
            yield {channel: drawn[channel] for channel in channels}

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        """Recording, channel and index of one frame, for error messages."""
        return f"{recording.name}, {channel} of frame {frame}"


class DrivingWorldReader(WorldReader):
    """Reader of the synthetic driving world: label maps, RGB, ground-truth backward flow."""

    name = "synthetic"
    world = "driving"
    label_space = CITYSCAPES
    channels = ("labels", "frames", "flow")
    streets: ClassVar[driving.DrivingWorld] = driving.DrivingWorld()

    def _draw(self, seed: int, size: Size) -> Iterator[dict[Channel, np.ndarray]]:
        drawn = driving.stream(seed, size=size, frame_rate=self.frame_rate, world=self.streets)
        for labels, frames, flow in drawn:
            yield {"labels": labels, "frames": frames, "flow": flow}

    def _digest(self) -> str:
        return self.streets.digest()


class AvenueReader(DrivingWorldReader):
    """Reader of the synthetic avenue: a driving world with a predictable future."""

    name = "avenue"
    world = "avenue"
    streets = driving.AVENUE


class WalkerWorldReader(WorldReader):
    """Reader of the synthetic walker world: body part maps and RGB."""

    name = "walker"
    world = "walker"
    label_space = DENSEPOSE
    channels = ("labels", "frames")

    def _draw(self, seed: int, size: Size) -> Iterator[dict[Channel, np.ndarray]]:
        for frame in walker.stream(seed, size=size, frame_rate=self.frame_rate):
            yield {"labels": frame.labels, "frames": frame.rgb}

    def _digest(self) -> str:
        return walker.WalkerWorld().digest()
