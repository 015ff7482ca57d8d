"""The synthetic driving world as a dataset: drawn on demand, nothing to download."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hvp.data.readers import Channel, Recording, Size, Split
from hvp.data.synthetic.driving import DrivingWorld, stream
from hvp.labels import CITYSCAPES


class DrivingWorldReader:
    """Recordings of the synthetic driving world: labels, RGB and exact backward flow."""

    name = "synthetic"
    label_space = CITYSCAPES

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
        frames_per_recording: frames of each recording.
        frame_rate: frames per second of the world's clock.
        seed: every recording's own seed derives from it and from the recording's name.
        """
        self.counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        self.frames_per_recording = frames_per_recording
        self.frame_rate = frame_rate
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        """Everything the drawn frames depend on."""
        return {
            "reader": self.name,
            "world": "driving",
            "world_digest": DrivingWorld().digest(),
            "label_space": asdict(self.label_space),
            "counts": dict(self.counts),
            "frames_per_recording": self.frames_per_recording,
            "frame_rate": self.frame_rate,
            "seed": self.seed,
        }

    def recordings(self) -> list[Recording]:
        """All recordings, training first."""
        return [
            Recording(
                f"driving-{split}-{index:04d}",
                split,
                self.frames_per_recording,
                ("labels", "frames", "flow"),
            )
            for split, count in self.counts.items()
            for index in range(count)
        ]

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        """Draw `recording`; see `hvp.data.readers.Reader`."""
        digest = hashlib.sha256(f"{self.seed}/{recording.name}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        world = stream(seed, size=size, frame_rate=self.frame_rate)
        for _, (labels, frames, flow) in zip(range(recording.n_frames), world, strict=False):
            drawn: dict[Channel, np.ndarray] = {"labels": labels, "frames": frames, "flow": flow}
            yield {channel: drawn[channel] for channel in channels}

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        """Name a drawn frame."""
        return f"{recording.name}, {channel} of frame {frame}"
