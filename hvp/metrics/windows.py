"""Windows of fixed length, cut from videos that come piece by piece.

Shapes: N videos side by side, P frames of a piece, W windows, L frames of a window.
"""

import torch
from torch import Tensor

from hvp.errors import ConfigError, DataError


class SlidingWindows:
    """Cuts N videos into windows that start at frames 0, stride, 2 stride, ...

    It keeps the frames that a later window needs, at most `window - 1` of each video.

    Args:
        window: frames of a window, L.
        stride: frames from the start of a window to that of the next.

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
        """Forget the videos so far; the next piece starts new ones."""
        self._kept: Tensor | None = None  # frames from index _seen - len on
        self._seen = 0
        self._cut = 0

    @property
    def frames_kept(self) -> int:
        """Frames held back of each video."""
        return 0 if self._kept is None else self._kept.shape[1]

    def push(self, piece_NP: Tensor) -> tuple[int, Tensor]:
        """Append frames (N, P, ...) to the N videos.

        Returns:
            The number of windows cut before, and the windows (N, W, L, ...) that are complete now
            (a view; W may be 0).

        Raises:
            DataError: the piece does not fit those before it.
        """
        frames = piece_NP
        if self._kept is not None:
            if (
                self._kept.shape[:1] + self._kept.shape[2:]
                != piece_NP.shape[:1] + piece_NP.shape[2:]
            ):
                raise DataError(
                    f"piece of videos {tuple(piece_NP.shape)} does not continue videos "
                    f"{tuple(self._kept.shape)} (N, frames, ...); end them with last=True first"
                )
            frames = torch.cat((self._kept, piece_NP), dim=1)
        origin = self._seen - self.frames_kept
        self._seen += piece_NP.shape[1]

        before = self._cut
        n_new = max(0, (self._seen - self.window) // self.stride + 1 - before)
        start = before * self.stride - origin
        span = frames[:, start : start + (n_new - 1) * self.stride + self.window]
        if n_new:
            windows = span.unfold(1, self.window, self.stride).movedim(-1, 2)
        else:
            windows = frames[:, :0].unsqueeze(2).expand(-1, -1, self.window, *frames.shape[2:])
        self._cut += n_new
        # Cloned, so that a short rest does not keep a long piece in memory.
        self._kept = frames[:, max(0, self._cut * self.stride - origin) :].clone()
        return before, windows
