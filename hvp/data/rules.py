"""Clip rules: sliding windows over recordings that make training, validation and test clips.

A clip lies within one recording, and a recording has no gap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload

import numpy as np

from hvp.clips import ClipId
from hvp.data.readers.base import Recording, Split
from hvp.errors import ConfigError, DataError


class ClipList(Sequence[ClipId]):
    """Lazy list of sliding-window clips; memory is one integer per recording.

    A window starts at every `stride`-th frame from `offset` on, in every recording.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        length: int,
        step: int,
        stride: int = 1,
        offset: int = 0,
    ) -> None:
        """Args:
        recordings: recordings to cut, in this order.
        length: frames per clip.
        step: frame step: recorded frames from one frame of a clip to the next.
        stride: recorded frames from one clip's first frame to the next clip's.
        offset: first frame of a recording's first clip.
        """
        self.length = length
        self.step = step
        self.stride = stride
        self.offset = offset
        self._names = [recording.name for recording in recordings]
        starts = [_n_clips(r.n_frames, length, step, stride, offset) for r in recordings]
        self.too_short = starts.count(0)
        """Number of recordings that are too short for one clip."""
        self._ends = np.array(list(accumulate(starts)), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> ClipId: ...
    @overload
    def __getitem__(self, index: slice) -> list[ClipId]: ...
    def __getitem__(self, index: int | slice) -> ClipId | list[ClipId]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        recording = int(np.searchsorted(self._ends, index, side="right"))
        nth = index - (int(self._ends[recording - 1]) if recording else 0)
        return ClipId(self._names[recording], self.offset + nth * self.stride, self.step)

    def subsample(self, count: int) -> list[ClipId]:
        """Evenly spaced subset of at most `count` clips, from the first to the last."""
        count = min(count, len(self))
        return [self[int(i)] for i in np.linspace(0, len(self) - 1, count).round()]


def _n_clips(n_frames: int, length: int, step: int, stride: int, offset: int) -> int:
    """Number of clips in one recording."""
    span = (length - 1) * step + 1
    return max(0, (n_frames - offset - span) // stride + 1)


@dataclass(frozen=True)
class ClipRules:
    """Clip rules of a dataset (Lee et al., ICLR 2021, and its released scripts)."""

    n_past: int
    """Number of context frames."""
    n_future: int
    """Number of predicted frames in training."""
    n_eval: int
    """Number of predicted frames in evaluation."""
    step: int
    """Frame step: recorded frames from one frame of a clip to the next."""
    eval_offset: int
    """Index of the first frame of a recording's first test clip."""
    eval_stride: int
    """Stride of test clips, in recorded frames."""
    min_eval_clips: int
    """Minimum number of test clips; they are shortened until there are as many (`test_clips`)."""
    val_stride: int = 1
    """Stride of validation clips, in recorded frames."""

    def __post_init__(self) -> None:
        minimum = {"eval_offset": 0}
        for name, value in vars(self).items():
            if value < minimum.get(name, 1):
                raise ConfigError(
                    f"dataset.rules.{name}={value}: expected at least {minimum.get(name, 1)}"
                )

    def train_clips(self, recordings: Sequence[Recording], length: int | None = None) -> ClipList:
        """Training clips: every window of `length` frames (default n_past + n_future).

        Raises:
            DataError: there is none.
        """
        return self._every(recordings, "train", length, stride=1)

    def val_clips(self, recordings: Sequence[Recording]) -> ClipList:
        """Validation clips: every `val_stride`-th window of n_past + n_future frames.

        They come from the test split where a dataset has no validation split (Cityscapes).

        Raises:
            DataError: there is none.
        """
        split: Split = "val" if _of_split(recordings, "val") else "test"
        return self._every(recordings, split, None, self.val_stride)

    def test_clips(self, recordings: Sequence[Recording]) -> ClipList:
        """Test clips, one every `eval_stride` frames; their `length` is L.

        L is the largest length up to n_past + n_eval at which `min_eval_clips` clips exist, and
        n_past + 1 where not even that is short enough. Predictions go on for n_eval frames
        whatever L is; ground truth ends at L.

        Raises:
            DataError: no clip of n_past + 1 frames exists.
        """
        test = _of_split(recordings, "test")

        def clips(length: int) -> ClipList:
            return ClipList(test, length, self.step, self.eval_stride, self.eval_offset)

        low, high = self.n_past + 1, self.n_past + self.n_eval
        found = clips(_longest(clips, low, high, self.min_eval_clips))
        if not len(found):
            raise _no_clip(test, "test", low, self.step, self.eval_offset)
        return found

    def longest(self, recordings: Sequence[Recording], min_clips: int) -> int:
        """Largest clip length at which the training split has `min_clips` clips; at least 1."""
        train = _of_split(recordings, "train")
        longest = max((r.n_frames for r in train), default=1)
        return _longest(lambda length: ClipList(train, length, self.step), 1, longest, min_clips)

    def _every(
        self, recordings: Sequence[Recording], split: Split, length: int | None, stride: int
    ) -> ClipList:
        length = self.n_past + self.n_future if length is None else length
        chosen = _of_split(recordings, split)
        clips = ClipList(chosen, length, self.step, stride)
        if not len(clips):
            raise _no_clip(chosen, split, length, self.step, 0)
        return clips


def _longest(clips: Callable[[int], ClipList], shortest: int, longest: int, min_clips: int) -> int:
    """Bisection for the largest length in shortest..longest that gives `min_clips` clips.

    The number of clips falls with their length; `shortest` where no length gives as many.
    """
    while shortest < longest:
        middle = (shortest + longest + 1) // 2
        if len(clips(middle)) >= min_clips:
            shortest = middle
        else:
            longest = middle - 1
    return shortest


def _of_split(recordings: Sequence[Recording], split: Split) -> list[Recording]:
    return [recording for recording in recordings if recording.split == split]


def _no_clip(
    recordings: Sequence[Recording], split: Split, length: int, step: int, offset: int
) -> DataError:
    longest = max(recordings, key=lambda r: r.n_frames, default=None)
    found = f", {longest.name}, has {longest.n_frames}" if longest else " is missing"
    return DataError(
        f"split {split!r}: no clip of {length} frames at step {step} fits: it needs "
        f"{offset + (length - 1) * step + 1} recorded frames, the longest of {len(recordings)} "
        f"recordings{found}; lower dataset.rules (n_past, n_future, step, eval_offset) or choose "
        "longer recordings for that split"
    )
