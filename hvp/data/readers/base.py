"""Reader protocol: a raw dataset layout as recordings of consecutive frames.

`hvp.data.store` packs what a reader yields. Each dataset is one file beside this one.

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
from hvp.errors import DataError
from hvp.labels import LabelSpace, Size

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Recording:
    """Recording: consecutive frames of one camera, without a gap."""

    name: str
    """Unique within its dataset, for example `2011_09_26/2011_09_26_drive_0005_sync`."""
    split: Split
    """Split of the recording."""
    n_frames: int
    """Number of frames."""
    channels: tuple[Channel, ...] = ("labels",)
    """Channels that every frame has."""


@dataclass(frozen=True)
class Skip:
    """Excluded raw data, with the reason."""

    reason: str
    """Reason, with the config key that decides it where there is one."""
    names: tuple[str, ...]
    """Names of what is excluded (drives, sequences, clips)."""
    n_frames: int
    """Number of frames excluded."""
    unread: bool = False
    """Whether it is left out because no rule takes it, and not on purpose."""


class Reader(Protocol):
    """Dataset reader of one raw layout.

    All methods raise `hvp.errors.DataError` where files do not match the layout.
    """

    name: str
    """Dataset name; prefix of its folder in the clip store."""
    label_space: LabelSpace
    """Classes of the label maps."""

    def settings(self) -> dict[str, Any]:
        """Settings that determine the prepared data, as plain JSON values.

        They hold the splits, the preprocessing and a digest of the source (`source_digest`, or the
        version of a synthetic world), but no path: moved raw data has the same settings.
        """

    def recordings(self) -> list[Recording]:
        """All recordings, in a stable order. Opens no image."""

    def skipped(self) -> list[Skip]:
        """Raw data that is left out: on purpose, or because no rule takes it. Opens no image."""

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        """Frame iterator over a recording, preprocessed at `size`; opens files of `channels` only.

        Yields:
            Per frame: labels (H, W) uint8; frames (H, W, 3) uint8 RGB; flow (2, H, W) float32
            ground-truth backward flow in pixels (see `hvp.clips.ClipBatch`).
        """

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        """Source of one frame for error messages: its file, if it has one."""


@runtime_checkable
class MakesLabels(Protocol):
    """Reader of a dataset whose missing label maps are pseudo-labels, predicted from RGB."""

    def make_labels(self) -> None:
        """Predict the missing label maps, which `read` needs. Resumable."""


def source_digest(files: Iterable[tuple[Path, Path]]) -> str:
    """Listing digest: SHA-256 (hex) of each file's path below its root and its size in bytes.

    Args:
        files: (root, file) pairs, in a stable order.

    Raises:
        DataError: a name is not UTF-8.
    """
    sha = hashlib.sha256()
    for root, file in files:
        if not file.as_posix().isprintable() and _has_surrogates(file.as_posix()):
            raise DataError(
                f"{file}: its name is not UTF-8, and results could not name it; rename it "
                "(convmv -f latin1 -t utf8 renames whole trees)"
            )
        sha.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\n".encode())
    return sha.hexdigest()


def _has_surrogates(name: str) -> bool:
    """Whether a name holds bytes that are no UTF-8, which Python keeps as lone surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in name)


def consecutive_runs(numbers: Sequence[int]) -> list[slice]:
    """Runs of consecutive numbers, as slices of an ascending sequence.

    >>> consecutive_runs([3, 4, 5, 9, 10])
    [slice(0, 3, None), slice(3, 5, None)]
    """
    cuts = [i for i, (a, b) in enumerate(pairwise(numbers), start=1) if b != a + 1]
    return [slice(a, b) for a, b in pairwise([0, *cuts, len(numbers)])]
