"""Schedules over epochs (from 0): learning-rate decay and length of the training clips."""

from collections.abc import Callable
from dataclasses import dataclass


def linear_decay(n_epochs: int, n_epochs_decay: int) -> Callable[[int], float]:
    """Linear learning-rate decay: factor 1 for epochs 0 .. n_epochs, then linearly to 0.

    It reaches 0 at epoch `n_epochs + n_epochs_decay`; the published training ends before that.
    """

    def factor(epoch: int) -> float:
        if epoch <= n_epochs:
            return 1.0
        return max(0.0, 1 - (epoch - n_epochs) / n_epochs_decay)

    return factor


@dataclass(frozen=True)
class SequenceSchedule:
    """Curriculum of clip lengths: training clips double every few epochs, up to a limit."""

    n_given: int
    """True frames at the start of each clip (K-1)."""
    n_frames_total: int
    """Frames to generate in the first epochs."""
    n_frames_max: int
    """Longest clip, given frames included."""
    n_frames_load: int
    """Frames generated per optimiser step."""
    n_epochs_step: int
    """Epochs between two doublings."""

    def chunk(self, n_frames: int) -> int:
        """Frames per optimiser step for a clip with `n_frames` frames to generate."""
        return min(n_frames, self.n_frames_load)

    def n_frames(self, epoch: int, longest_clip: int | None = None) -> int:
        """Frames to generate per clip, a multiple of the chunk: only whole chunks are trained on.

        Args:
            epoch: counted from 0.
            longest_clip: frames of the longest clip in the data; None = no limit.
        """
        limit = self.n_frames_max if longest_clip is None else min(self.n_frames_max, longest_clip)
        longest = limit - self.n_given
        # The exponent is bounded to keep the number small: 2**30 frames exceed any limit.
        doubled = self.n_frames_total * 2 ** min(epoch // self.n_epochs_step, 30)
        n_frames = max(1, min(doubled, longest))
        return n_frames - n_frames % self.chunk(n_frames)

    def clip_length(self, epoch: int, longest_clip: int | None = None) -> int:
        """Frames per training clip, the given ones included; arguments as for `n_frames`."""
        return self.n_frames(epoch, longest_clip) + self.n_given
