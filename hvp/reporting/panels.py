"""Videos of clips: ground truth | best sample | others | baselines, framed by phase.

Shapes: S samples, T time, H height, W width. Streams start at the clip's first frame, context
included, and are read once, side by side, so that memory does not grow with the horizon.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from hvp.errors import DataError
from hvp.labels import LabelSpace
from hvp.media import Colour, frame_border, tile, write_gif, write_mp4

PHASE_COLOURS: dict[str, Colour] = {
    "context": (34, 160, 75),
    "trained": (240, 190, 20),
    "beyond": (214, 40, 40),
}
"""Border of a frame: given to the model (green), predicted within the trained horizon (yellow),
predicted beyond it (red)."""

_NO_FRAME = 96  # grey level shown where a stream has no frame
_BACKGROUND = (24, 24, 27)
_Rows = list[list[np.ndarray | None]]
_SHOWN_HEIGHT = 192  # pixels a frame is enlarged to, at most


@dataclass(frozen=True)
class Stream:
    """One column of a panel: the same future as label maps, as RGB, or both."""

    labels: Iterable[np.ndarray] | None = None
    """Label maps (H, W) uint8."""
    frames: Iterable[np.ndarray] | None = None
    """RGB frames (H, W, 3) uint8, of the label maps' size."""


@dataclass(frozen=True)
class ClipPanel:
    """The columns shown for one clip, from left to right."""

    name: str
    titles: tuple[str, ...]
    streams: tuple[Stream, ...]

    @classmethod
    def arrange(
        cls,
        name: str,
        truth: Stream,
        samples: Sequence[Stream],
        best: int,
        others: int = 2,
        baselines: Mapping[str, Stream] | None = None,
    ) -> "ClipPanel":
        """Ground truth, the best sample, the first `others` of the other samples, baselines.

        Args:
            name: the clip's name.
            truth: the real clip; it may end early (grey from there on).
            samples: the S predicted futures.
            best: index of the best sample, from `Evaluation.best_sample`.
            others: how many further samples to show.
            baselines: futures of other models by the model's name.
        """
        rest = [index for index in range(len(samples)) if index != best][:others]
        titles = ["ground truth", f"best sample (no. {best + 1})"]
        titles += [f"sample no. {index + 1}" for index in rest]
        chosen = [truth, *(samples[index] for index in [best, *rest])]
        baselines = baselines or {}
        return cls(name, (*titles, *baselines), (*chosen, *baselines.values()))


def phase(step: int, context: int, trained: int) -> str:
    """Key into `PHASE_COLOURS` of frame `step` of a clip, counted from 0.

    Example:
        >>> [phase(step, context=2, trained=1) for step in range(4)]
        ['context', 'context', 'trained', 'beyond']
    """
    if step < context:
        return "context"
    return "trained" if step < context + trained else "beyond"


def shown_every(n_frames: int, most_frames: int | None) -> int:
    """The k of every k-th frame, so that at most `most_frames` of `n_frames` are shown.

    Example:
        >>> shown_every(10_005, most_frames=500)
        21
    """
    return 1 if most_frames is None else -(-n_frames // most_frames)


@dataclass(frozen=True)
class ClipVideo:
    """A clip's panel as an MP4 file, which report and loggers show."""

    name: str
    """The clip's name."""
    titles: tuple[str, ...]
    """The columns, from left to right."""
    path: Path
    ratio: str
    """Height over width of the picture."""
    every: int
    """Every k-th frame is shown; 1 where all are."""


def write_clip_videos(
    folder: Path,
    panels: Iterable[ClipPanel],
    space: LabelSpace,
    context: int,
    trained: int,
    horizon: int,
    fps: float,
    most_frames: int | None = None,
) -> list[ClipVideo]:
    """Write one MP4 per clip to `folder`: `0.mp4`, `1.mp4`, ...; see `write_panel`.

    Args:
        folder: where the files go.
        panels: the clips; their streams are read once.
        space: colours of the label maps.
        context: context frames.
        trained: predicted frames within the trained horizon.
        horizon: predicted frames in all.
        fps: frames per second of the videos.
        most_frames: show every k-th frame, so that there are at most so many; None shows all.

    Raises:
        DataError: a clip has no frames.
    """
    every = shown_every(context + horizon, most_frames)
    videos = []
    for number, panel in enumerate(panels):
        path = folder / f"{number}.mp4"
        height, width = write_panel(path, panel, space, context, trained, horizon, fps, most_frames)
        videos.append(ClipVideo(panel.name, panel.titles, path, f"{height / width:.4f}", every))
    return videos


def write_panel(
    path: Path,
    panel: ClipPanel,
    space: LabelSpace,
    context: int,
    trained: int,
    horizon: int,
    fps: float,
    most_frames: int | None = None,
) -> tuple[int, int]:
    """Write the panel's video: a row of colourised label maps, a row of RGB, where there are any.

    Args:
        path: file to write, `.mp4` or `.gif`.
        panel: what to show.
        space: colours of the label maps.
        context: context frames.
        trained: predicted frames within the trained horizon.
        horizon: predicted frames in all.
        fps: frames per second of the video.
        most_frames: show every k-th frame, so that there are at most so many; None shows all.

    Returns:
        Height and width of the picture before enlargement.

    Raises:
        DataError: the streams have no frames.
    """
    steps = _steps(panel, space)
    first = next(steps, None)
    if first is None:
        raise DataError(f"clip {panel.name}: no frames to show; give labels or frames")
    shape = next(frame.shape for row in first for frame in row if frame is not None)
    blank = np.full(shape, _NO_FRAME, np.uint8)
    border = max(2, shape[0] // 32)

    def picture(step: int, rows: _Rows) -> np.ndarray:
        colour = PHASE_COLOURS[phase(step, context, trained)]
        bordered = [
            [frame_border(blank if frame is None else frame, colour, border) for frame in row]
            for row in rows
        ]
        return tile(bordered, gap=border, background=_BACKGROUND)

    every = shown_every(context + horizon, most_frames)
    shown = islice(enumerate(chain([first], steps)), 0, context + horizon, every)
    pictures = (picture(step, rows) for step, rows in shown)
    write = write_gif if path.suffix == ".gif" else write_mp4
    write(path, pictures, fps, scale=max(1, _SHOWN_HEIGHT // shape[0]))
    height, width, _ = picture(0, first).shape
    return height, width


def _steps(panel: ClipPanel, space: LabelSpace) -> Iterator[_Rows]:
    """The panel's frames (H, W, 3) step by step, row by row, until the longest stream ends.

    None stands where a stream has no frame; a row that no stream has is left out.
    """
    labels = [
        None if stream.labels is None else map(space.colourise, stream.labels)
        for stream in panel.streams
    ]
    frames = [None if stream.frames is None else iter(stream.frames) for stream in panel.streams]
    rows = [row for row in (labels, frames) if any(stream is not None for stream in row)]
    while True:
        step = [[None if stream is None else next(stream, None) for stream in row] for row in rows]
        if all(frame is None for row in step for frame in row):
            return
        yield step
