"""Sliding windows over videos that arrive in chunks.

Shapes: N videos in parallel, P frames of a chunk, W windows, L frames of a window.
"""

import torch
from torch import Tensor

from hvp.errors import ConfigError, DataError


class SlidingWindows:
    """Sliding windows over N video streams; windows start at frames 0, stride, 2 stride, ...

    Buffers the frames that a later window needs, at most `window - 1` per video.

    Args:
        window: frames per window, L.
        stride: frames between the starts of two windows.

    Raises:
        ConfigError: either is under 1.

    Example:
        >>> buffer = SlidingWindows(window=3, stride=2)
        >>> video = torch.arange(7).view(1, 7)
        >>> buffer.push(video[:, :4])
        (0, tensor([[[0, 1, 2]]]))
        >>> buffer.push(video[:, 4:])
        (1, tensor([[[2, 3, 4],
                 [4, 5, 6]]]))
    """

    def __init__(self, window: int, stride: int) -> None:
        if window < 1 or stride < 1:
            raise ConfigError(
                f"window={window}, stride={stride}: windows of video need at least 1 of both"
            )
        self.window = window
        self.stride = stride
        self.reset()

    def reset(self) -> None:
        """Drop the buffer; the next chunk starts new videos."""
        self._kept: Tensor | None = None  # buffered frames, the last ones of those seen
        self._seen = 0
        self._cut = 0

    @property
    def frames_kept(self) -> int:
        """Number of buffered frames per video."""
        return 0 if self._kept is None else self._kept.shape[1]

    def push(self, chunk_NP: Tensor) -> tuple[int, Tensor]:
        """Append a chunk (N, P, ...) to the N videos.

        Returns:
            The number of windows returned before, and the windows (N, W, L, ...) that are complete
            now (a view; W may be 0).

        Raises:
            DataError: the shape differs from that of the chunks before.
        """
        frames = chunk_NP
        if self._kept is not None:
            if (
                self._kept.shape[:1] + self._kept.shape[2:]
                != chunk_NP.shape[:1] + chunk_NP.shape[2:]
            ):
                raise DataError(
                    f"piece of videos {tuple(chunk_NP.shape)} does not continue videos "
                    f"{tuple(self._kept.shape)} (N, frames, ...); end them with last=True first"
                )
            frames = torch.cat((self._kept, chunk_NP), dim=1)
        origin = self._seen - self.frames_kept
        self._seen += chunk_NP.shape[1]

        before = self._cut
        n_new = max(0, (self._seen - self.window) // self.stride + 1 - before)
        start = before * self.stride - origin
        span = frames[:, start : start + (n_new - 1) * self.stride + self.window]
        if n_new:
            windows = span.unfold(1, self.window, self.stride).movedim(-1, 2)
        else:
            windows = frames[:, :0].unsqueeze(2).expand(-1, -1, self.window, *frames.shape[2:])
        self._cut += n_new
        # Cloned, so that a short view does not keep a long chunk in memory.
        self._kept = frames[:, max(0, self._cut * self.stride - origin) :].clone()
        return before, windows
