"""Evaluation loop: reads every clip once, side by side with its baselines, for all measures."""

from collections.abc import Iterable, Sequence

from hvp.errors import DataError
from hvp.evaluation.measure import Measure
from hvp.evaluation.missing import Missing, Unavailable
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Clip, read_pieces


def run_measures(
    clips: Iterable[Clip], protocol: Protocol, measures: Sequence[Measure]
) -> list[Result | Missing]:
    """Read every clip once and give it to all measures.

    Memory does not grow with the horizon: streams are read a few frames at a time, and beyond the
    ground truth only where a measure needs that.

    Args:
        clips: the videos; all clips have the same systems, in the same order.
        protocol: what is measured; the clips must be what it says.
        measures: what to compute, all of the channel of the clips.

    Returns:
        For each measure its result, or why it cannot be computed.

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
    return [_outcome(measure) for measure in measures]


def _outcome(measure: Measure) -> Result | Missing:
    try:
        return measure.result()
    except Unavailable as reason:
        return Missing(measure.names(), reason)
