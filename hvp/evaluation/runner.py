"""Measures predictions against ground truth, with the baselines that give the numbers a scale."""

from collections.abc import Iterable, Sequence
from typing import Protocol as Interface

from hvp.errors import DataError
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import NotComputed, Result
from hvp.evaluation.streams import Clip, Piece, read_pieces


class Measure(Interface):
    """One family of metrics, for all systems of an evaluation."""

    beyond_truth: bool
    """Whether it measures predictions that have no ground truth any more."""

    def update(self, piece: Piece) -> None:
        """Add the next piece of a clip."""
        ...

    def result(self) -> Result | NotComputed:
        """Everything measured so far, or why it cannot be computed."""
        ...


def run_measures(
    clips: Iterable[Clip], protocol: Protocol, measures: Sequence[Measure]
) -> tuple[list[Result], list[NotComputed]]:
    """Read every clip once and give it to all measures.

    Memory does not grow with the horizon: streams are read a few frames at a time, and beyond the
    ground truth only where a measure needs that.

    Args:
        clips: the videos; all clips have the same systems, in the same order.
        protocol: what is measured; the clips must be what it says.
        measures: what to compute.

    Raises:
        DataError: clips are not what the protocol says.
    """
    beyond_truth = any(measure.beyond_truth for measure in measures)
    systems: list[str] | None = None
    n_clips = 0
    for clip in clips:
        n_clips += 1
        systems = systems or list(clip.systems)
        if list(clip.systems) != systems:
            raise DataError(
                f"clip {clip.name}: has videos of {', '.join(clip.systems)}, unlike the clips "
                f"before it ({', '.join(systems)}); give the same systems for all clips"
            )
        for piece in read_pieces(clip, protocol, beyond_truth):
            for measure in measures:
                measure.update(piece)
    if n_clips != protocol.n_clips:
        raise DataError(
            f"evaluation: {n_clips} clips were given, but the evaluation protocol says "
            f"{protocol.n_clips}"
        )
    found = [measure.result() for measure in measures]
    return (
        [item for item in found if isinstance(item, Result)],
        [item for item in found if isinstance(item, NotComputed)],
    )
