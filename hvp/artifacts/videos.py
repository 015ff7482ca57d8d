"""Video sets: lossless RGB videos made by stage two or by the RGB baseline, read by the evaluation.

One `clips/<name>.mkv` per video (FFV1, RGB exact) of context + horizon frames; the first `context`
frames are the true ones. A clip has one video per sample of the prediction set and may have one
more, the image generator's translation of the ground-truth labels (`oracle`), which separates
errors of stage two from those of stage one. `index.json` lists the videos; see
hvp/artifacts/clip_set.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hvp.artifacts.clip_set import ClipFile, ClipSet, ClipSetWriter, Header
from hvp.clips import ClipId
from hvp.errors import ArtifactError
from hvp.media import AddFrame, lossless_writer, read_frames

Kind = Literal["sample", "oracle"]
"""Translated from predicted or from ground-truth label maps."""


@dataclass(frozen=True)
class TranslatedVideo(ClipFile):
    """One video of a clip; an oracle's `horizon` ends with the ground truth."""

    kind: Kind
    """Translated from predicted or from ground-truth label maps."""
    sample: int
    """Which sample of the prediction set, counted from 0; 0 for the oracle."""

    @property
    def file(self) -> str:
        """Path within the set."""
        return f"clips/{self.stem}-{self.kind}{self.sample:03d}.mkv"


@dataclass(frozen=True)
class VideoHeader(Header):
    """Metadata shared by all videos of a set."""

    predictions: str
    """Reference of the prediction artifact that was translated; empty where RGB was predicted
    without label maps."""
    checkpoint_digest: str
    """Digest of the image generator's weights."""
    dataset: str
    """Name of the dataset."""
    settings_digest: str
    """Digest of the settings the videos were made with."""
    fps: float
    """Frames per second when shown."""
    seed: int
    """Seed of the random numbers."""


class VideoSetWriter(ClipSetWriter[VideoHeader, TranslatedVideo]):
    """Writer of a video set, any number of videos at a time; see `ClipSetWriter`.

    Example:
        writer = VideoSetWriter(directory, header, videos)
        with writer.open(videos[0]) as add:
            for frame in frames:  # (H, W, 3) uint8
                add(frame)
        writer.close()
    """

    format = "videos"

    @contextmanager
    def open(self, video: TranslatedVideo) -> Iterator[AddFrame]:
        """Yield the function that appends a frame; the file appears when the block ends well.

        Raises:
            ArtifactError: a frame of another size, or not as many frames as the video has.
        """
        count = 0
        expected = (*self.header.size, 3)
        with lossless_writer(self.path(video), self.header.fps) as append:

            def add(frame: np.ndarray) -> None:
                nonlocal count
                if frame.shape != expected:
                    raise ArtifactError(
                        f"{self.path(video)}: expected frames {expected}, found {frame.shape}"
                    )
                append(frame)
                count += 1

            yield add
            if count != video.length:
                raise ArtifactError(
                    f"{self.path(video)}: expected {video.length} frames (context + horizon) of "
                    f"clip {video.id}, found {count}; add all of them before the block ends"
                )
        self.record(video)


class VideoSet(ClipSet[VideoHeader, TranslatedVideo]):
    """Reader of a video set; see `ClipSet`."""

    format = "videos"
    header_type = VideoHeader
    file_type = TranslatedVideo

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._of: dict[tuple[ClipId, Kind], list[TranslatedVideo]] = {}
        for video in self.clips:
            self._of.setdefault((video.clip, video.kind), []).append(video)

    def of(self, clip: ClipId, kind: Kind) -> list[TranslatedVideo]:
        """The videos of a clip that are of one kind, in the order of the index; may be none."""
        return self._of.get((clip, kind), [])

    def frames(self, video: TranslatedVideo) -> Iterator[np.ndarray]:
        """The frames of one video, one at a time, each (H, W, 3) uint8.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        yield from read_frames(self.path(video))
