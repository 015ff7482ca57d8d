"""Streaming of a clip's videos: all systems side by side, a few frames at a time.

Frames are label maps (H, W) or RGB (H, W, 3), uint8. Shapes: S samples, P frames of a piece, H
height, W width. Streams start at the clip's first frame, context included.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.systems import COPY_LAST

_STEPS_AT_ONCE = 16  # frames of a stream held in memory

Stream = Iterable[np.ndarray]
"""Frames of one video, read once."""


@dataclass(frozen=True)
class Clip:
    """Ground truth and the videos of all systems for one clip."""

    name: str
    truth: Stream
    """The real frames; they may end earlier or later than the horizon."""
    systems: Mapping[str, Sequence[Stream]]
    """The videos of each system; the first is the evaluated one, with `protocol.n_samples` videos
    of context + horizon frames, the others are baselines, which may end with the ground truth."""


@dataclass(frozen=True)
class Piece:
    """The same consecutive predicted steps of all videos of a clip; the context is left out."""

    clip: str
    truth: Tensor
    """uint8 (P', H, W) or (P', 3, H, W); P' <= P, and 0 once the ground truth has ended."""
    systems: Mapping[str, Tensor]
    """uint8 (S, P, H, W) or (S, P, 3, H, W) of each system; baselines may end with the truth. The
    last context frame, repeated, is among them."""
    last: bool
    """Whether this piece ends the clip."""


def read_pieces(clip: Clip, protocol: Protocol, beyond_truth: bool) -> Iterator[Piece]:
    """The predicted steps of a clip, piece by piece.

    Args:
        clip: the videos; each is read once, in step with the others.
        protocol: what they must be.
        beyond_truth: go on to the end of the horizon when the ground truth has ended.

    Raises:
        DataError: the videos are not what the protocol says.
    """
    model = next(iter(clip.systems))
    if len(clip.systems[model]) != protocol.n_samples:
        raise DataError(
            f"clip {clip.name}: {len(clip.systems[model])} samples of the {model}, but the "
            f"evaluation protocol says {protocol.n_samples}"
        )
    truth = iter(clip.truth)
    sources = {name: [iter(s) for s in streams] for name, streams in clip.systems.items()}
    context = _take(truth, protocol.context, clip.name, "ground truth", protocol)
    if len(context) < protocol.context:
        raise DataError(
            f"clip {clip.name}: ground truth has {len(context)} frames, but the evaluation "
            f"protocol says {protocol.context} context frames"
        )
    for system, streams in sources.items():
        for stream in streams:
            _take(stream, protocol.context, clip.name, system, protocol, context)

    done, truth_ended = 0, False
    while True:
        n_wanted = min(_STEPS_AT_ONCE, protocol.horizon - done)
        n_taken = 0 if truth_ended else n_wanted
        truth_piece = _take(truth, n_taken, clip.name, "ground truth", protocol, context)
        truth_ended = len(truth_piece) < n_wanted
        n_steps = n_wanted if beyond_truth else len(truth_piece)
        systems = {}
        for system, streams in sources.items():
            n_needed = n_steps if system == model else len(truth_piece)
            taken = [_take(s, n_steps, clip.name, system, protocol, context) for s in streams]
            shortest = min(len(frames) for frames in taken)
            if shortest < n_needed:
                raise DataError(
                    f"clip {clip.name}: a video of the {system} ends after {done + shortest} "
                    f"predicted frames, but the horizon is {protocol.horizon} and the ground "
                    f"truth has {done + len(truth_piece)} or more; make the videos again"
                )
            systems[system] = torch.stack([frames[:shortest] for frames in taken])
        systems[COPY_LAST] = context[-1].expand(1, n_steps, *context.shape[1:])
        done += n_steps
        last = done == protocol.horizon or (truth_ended and not beyond_truth)
        yield Piece(clip.name, truth_piece, systems, last)
        if last:
            return


def _take(
    stream: Iterator[np.ndarray],
    count: int,
    clip: str,
    what: str,
    protocol: Protocol,
    like: Tensor | None = None,
) -> Tensor:
    """Up to `count` frames of a stream, stacked to (P, H, W) or (P, 3, H, W) uint8.

    `like` holds such frames where the layout is known; without it both are allowed.
    """
    size = (protocol.height, protocol.width)
    allowed = [size, (*size, 3)] if like is None else [size + (3,) * (like.dim() == 4)]
    frames = [np.asarray(frame) for frame in islice(stream, count)]
    for frame in frames:
        if frame.shape not in allowed:
            raise DataError(
                f"clip {clip}: frame of the {what} is {frame.shape}, but the evaluation protocol "
                f"says {' or '.join(map(str, allowed))}"
            )
    if not frames:
        return torch.zeros((0, *size), dtype=torch.uint8) if like is None else like[:0]
    stacked = torch.from_numpy(np.stack(frames))
    return stacked.permute(0, 3, 1, 2) if stacked.dim() == 4 else stacked
