"""Prediction sets: the label maps sampled by stage one, read by stage two and the evaluation.

One `clips/<name>.npz` per clip with `samples` (S, T, H, W) uint8, readable with numpy alone:
`np.load(path)["samples"]` (format: hvp/artifacts/label_files.py). T is context + horizon; the first
`context` frames are the true ones and the same in all samples. `index.json` lists the clips; see
hvp/artifacts/clip_set.py.

Shapes: S samples, T time, H height, W width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hvp.artifacts.clip_set import ClipFile, ClipSet, ClipSetWriter, Header
from hvp.artifacts.label_files import AddFrames, LabelFile, open_samples
from hvp.errors import ArtifactError
from hvp.labels import LabelSpace


@dataclass(frozen=True)
class PredictedClip(ClipFile):
    """One clip of a prediction set."""

    samples: int
    """Number S of sampled futures."""

    @property
    def file(self) -> str:
        """Path within the set."""
        return f"clips/{self.stem}.npz"


@dataclass(frozen=True)
class PredictionHeader(Header):
    """Metadata shared by all clips of a prediction set."""

    dataset: str
    """Name of the dataset."""
    dataset_digest: str
    """Digest of the dataset's settings."""
    label_space: LabelSpace
    """Class names and palette."""
    frame_step: int
    """Distance between two frames of a clip, in recorded frames."""
    checkpoint_digest: str
    """Digest of the structure generator's weights."""
    sampling: dict[str, Any]
    """Sampling options (skip policy, temperature, ...): JSON values."""
    seed: int | None
    """Seed of the random numbers; None if unknown, as in an imported set."""


class PredictionSetWriter(ClipSetWriter[PredictionHeader, PredictedClip]):
    """Writer of a prediction set, clip by clip; see `ClipSetWriter`.

    Example:
        writer = PredictionSetWriter(directory, header, clips)
        for clip in clips:
            if not writer.done(clip):
                writer.write(clip, samples_STHW)
        writer.close()
    """

    format = "predictions"

    def write(self, clip: PredictedClip, samples_STHW: np.ndarray) -> None:
        """Write the samples of one clip.

        Args:
            clip: One of the clips given at construction.
            samples_STHW: uint8 label maps (S, T, H, W), the true context first.

        Raises:
            ArtifactError: wrong shape or type, or context frames that differ between samples.
            DataError: ids that are not classes of the header's label space.
        """
        _check_samples(samples_STHW, clip, self.header, f"{self.directory}, clip {clip.id}")
        with self.open(clip) as add:
            for frames_SHW in samples_STHW.swapaxes(0, 1):
                add(frames_SHW)

    @contextmanager
    def open(self, clip: PredictedClip) -> Iterator[AddFrames]:
        """Yield the function that appends the next frame (S, H, W) uint8 of all samples of a clip.

        The true context comes first, the same in all samples. The file appears when the block ends
        well; memory does not grow with the number of frames.

        Raises:
            ArtifactError: a frame of another shape or type, context frames that differ between
                samples, or not as many frames as the clip has.
            DataError: ids that are not classes of the header's label space.
        """
        count = 0
        shape = (clip.samples, clip.length, *self.header.size)
        with open_samples(self.path(clip), shape) as append:

            def add(frames_SHW: np.ndarray) -> None:
                nonlocal count
                if count < clip.context and (frames_SHW != frames_SHW[:1]).any():
                    raise ArtifactError(
                        f"{self.directory}, clip {clip.id}: the {clip.context} context frames "
                        "differ between samples; they must be the true ones in all of them"
                    )
                self.header.label_space.check(frames_SHW, f"predictions of clip {clip.id}")
                append(frames_SHW)
                count += 1

            yield add
        self.record(clip)


class PredictionSet(ClipSet[PredictionHeader, PredictedClip]):
    """Reader of a prediction set; see `ClipSet`. Iterating reads one clip at a time."""

    format = "predictions"
    header_type = PredictionHeader
    file_type = PredictedClip

    def samples(self, clip: PredictedClip) -> np.ndarray:
        """The label maps of one clip, uint8 (S, T, H, W).

        Raises:
            ArtifactError: the file is missing, damaged, or not what the index says.
        """
        return self._file(clip).read()

    def streams(self, clip: PredictedClip) -> list[Iterator[np.ndarray]]:
        """The samples of one clip as S iterators over label maps (H, W) uint8, context first.

        Memory does not depend on their length. Each reads only its own part of the file, so they
        may be read in turns or not to their end; all share one open file.

        Raises:
            ArtifactError: the file is missing, damaged, or not what the index says.
        """
        file = self._file(clip)
        return [file.sample(sample) for sample in range(clip.samples)]

    def _file(self, clip: PredictedClip) -> LabelFile:
        return LabelFile(self.path(clip), (clip.samples, clip.length, *self.header.size))

    def __iter__(self) -> Iterator[tuple[PredictedClip, np.ndarray]]:
        """The clips and their samples (S, T, H, W), in the order of the index."""
        for clip in self.clips:
            yield clip, self.samples(clip)


def _check_samples(
    samples_STHW: np.ndarray, clip: PredictedClip, header: PredictionHeader, where: str
) -> None:
    expected = (clip.samples, clip.length, *header.size)
    if samples_STHW.shape != expected or samples_STHW.dtype != np.uint8:
        raise ArtifactError(
            f"{where}: expected label maps uint8 {expected} (samples, context + horizon, height, "
            f"width), found {samples_STHW.dtype} {samples_STHW.shape}; make the set again"
        )
