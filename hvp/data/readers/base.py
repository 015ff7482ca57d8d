"""What a dataset is to the rest of the package: a reader of recordings.

A reader turns one raw layout into recordings of consecutive frames; `hvp.data.store` packs what
it yields. One dataset, one file beside this one.

Shapes: H height, W width.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from hvp.clips import Channel
from hvp.labels import LabelSpace, Size

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Recording:
    """Consecutive frames of one camera, without a gap."""

    name: str
    """Unique within its dataset, for example `2011_09_26/2011_09_26_drive_0005_sync`."""
    split: Split
    """Which split it belongs to."""
    n_frames: int
    """Number of frames."""
    channels: tuple[Channel, ...] = ("labels",)
    """What is known about every frame."""


@dataclass(frozen=True)
class Skip:
    """Raw data that is left out on purpose."""

    reason: str
    """Why, with the config key that decides it where there is one."""
    names: tuple[str, ...]
    """What is left out (drives, sequences, clips)."""
    n_frames: int
    """Frames left out with it."""


class Reader(Protocol):
    """A dataset in its raw layout.

    All methods raise `hvp.errors.DataError` where the files are not what the layout promises.
    """

    name: str
    """Name of the dataset; a folder of the store starts with it."""
    label_space: LabelSpace
    """Classes of the label maps."""

    def settings(self) -> dict[str, Any]:
        """Everything the prepared data depends on, as plain JSON values.

        Includes the splits, the preprocessing and a digest of the source (`source_digest`, or the
        version of the code that draws a synthetic world).
        """

    def recordings(self) -> list[Recording]:
        """All recordings, in an order that does not change. Reads no picture."""

    def skipped(self) -> list[Skip]:
        """What of the raw data is no recording, on purpose. Reads no picture."""

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        """Yield the frames of `recording` in order, preprocessed at `size`; open only `channels`.

        Arrays: labels (H, W) uint8; frames (H, W, 3) uint8 RGB; flow (2, H, W) float32 exact
        backward flow in pixels (see `hvp.clips.ClipBatch`).
        """

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        """Name the source of one frame for error messages (its file, if it has one)."""


@runtime_checkable
class MakesLabels(Protocol):
    """A reader that promises label maps which may first have to be made from the RGB frames."""

    def make_labels(self) -> None:
        """Make the label maps that are missing; `read` needs them. Resumable."""


def source_digest(files: Iterable[tuple[Path, Path]]) -> str:
    """SHA-256 in hex over (root, file) pairs: each file's path below its root, and its size."""
    sha = hashlib.sha256()
    for root, file in files:
        sha.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\n".encode())
    return sha.hexdigest()


def consecutive_runs(numbers: Sequence[int]) -> list[slice]:
    """Split ascending frame numbers into slices of consecutive ones.

    >>> consecutive_runs([3, 4, 5, 9, 10])
    [slice(0, 3, None), slice(3, 5, None)]
    """
    cuts = [i for i, (a, b) in enumerate(pairwise(numbers), start=1) if b != a + 1]
    return [slice(a, b) for a, b in pairwise([0, *cuts, len(numbers)])]
