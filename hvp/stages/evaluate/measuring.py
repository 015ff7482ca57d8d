"""Run all measures of the config on a comparison: label maps first, then RGB."""

import torch

from hvp.clips import Channel
from hvp.errors import ConfigError
from hvp.evaluation.build import Recipes, build_measures
from hvp.evaluation.measure import Measure, Setup
from hvp.evaluation.missing import Missing, merge
from hvp.evaluation.results import Evaluation, Result
from hvp.evaluation.runner import run_measures
from hvp.log import track
from hvp.stages.evaluate.comparison import Comparison

_TITLES: dict[Channel, str] = {"labels": "label maps", "frames": "RGB"}


def measure(
    comparison: Comparison, recipes: Recipes, device: torch.device, command: str
) -> Evaluation:
    """Run all measures; returns results, and the metrics that cannot be computed.

    Args:
        comparison: videos to measure.
        recipes: `evaluate.measures`, plain values.
        device: device of feature networks.
        command: command of this evaluation, for messages about missing inputs.

    Raises:
        ConfigError: no metric can be computed.
    """
    setup = Setup(
        comparison.protocol,
        comparison.data.label_space,
        comparison.n_measured_steps,
        device,
        command,
        comparison.load_model,
    )
    measures, missing = build_measures(recipes, setup, comparison.absent)
    outcomes: dict[Measure, Result | Missing] = {}
    for channel, title in _TITLES.items():
        mine = [m for m in measures if m.channel() == channel]
        if not mine:
            continue
        clips = comparison.clips_of(channel, mine)
        shown = track(clips, f"evaluate {title}", len(comparison.clips), "clips")
        outcomes |= zip(mine, run_measures(shown, comparison.protocol, mine), strict=True)
    found = [outcomes[m] for m in measures]
    results = tuple(item for item in found if isinstance(item, Result))
    missing += [item for item in found if isinstance(item, Missing)]
    not_computed = merge([*comparison.missing, *missing])
    if not results:
        reasons = "; ".join(f"{item.what}: {item.why}" for item in not_computed)
        raise ConfigError(
            f"evaluate.measures: none of them can be computed ({reasons or 'all are switched off'})"
        )
    return Evaluation(results, not_computed)
