"""Factory of measures: builds the classes named in `evaluate.measures` with Hydra."""

import inspect
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_class, instantiate

from hvp.clips import Channel
from hvp.errors import ConfigError
from hvp.evaluation.measure import Measure, Setup
from hvp.evaluation.missing import Missing, Unavailable

Recipes = Mapping[str, Mapping[str, Any] | None]
"""Plain config nodes by name, each with `_target_`; None for one that is switched off."""


def measure_classes(recipes: Recipes) -> dict[str, type[Measure]]:
    """The class of every measure that is switched on, by its name in the config.

    Raises:
        ConfigError: a class cannot be imported or is no measure, or two of them give a metric of
            the same name.
    """
    classes = {
        name: _measure_class(name, recipe) for name, recipe in recipes.items() if recipe is not None
    }
    giver: dict[str, str] = {}
    for name, measure in classes.items():
        for info in measure.metrics:
            if info.name in giver:
                raise ConfigError(
                    f"evaluate.measures: {giver[info.name]} and {name} both give the metric "
                    f"{info.name}; switch one off (evaluate.measures.{name}=null), or describe it "
                    "under another name in a subclass"
                )
            giver[info.name] = name
    return classes


def _measure_class(name: str, recipe: Mapping[str, Any]) -> type[Measure]:
    key = f"evaluate.measures.{name}"
    wanted = "expected the import path of a subclass of hvp.evaluation.measure.Measure"
    target = recipe.get("_target_") if isinstance(recipe, Mapping) else None
    if not isinstance(target, str):
        raise ConfigError(f"{key}={recipe}: has no _target_; {wanted}")
    try:
        found: type = get_class(target)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{key}._target_={target}: {reason}; {wanted}") from error
    if not issubclass(found, Measure):
        raise ConfigError(f"{key}._target_={target}: is no measure; {wanted}")
    metrics = getattr(found, "metrics", ())
    if not metrics or len({info.channel for info in metrics}) > 1:
        raise ConfigError(
            f"{key}._target_={target}: describes no metrics, or metrics of two channels; give "
            "`metrics` at least one MetricInfo, all of the same channel"
        )
    return found


def build_measures(
    recipes: Recipes, setup: Setup, absent: Mapping[Channel, Unavailable]
) -> tuple[list[Measure], list[Missing]]:
    """Every measure that can be computed, in the order of the config, and what is missing.

    Args:
        recipes: `evaluate.measures`, plain values.
        setup: what the evaluation knows.
        absent: the channels that there are no predictions of, and why.

    Raises:
        ConfigError: a class is no measure, or does not take the arguments of its node.
    """
    built: list[Measure] = []
    missing: list[Missing] = []
    for name, measure in measure_classes(recipes).items():
        try:
            _check_needs(measure, setup, absent)
            built.append(_build(name, recipes, setup))
        except Unavailable as reason:
            if not (measure.optional and reason.unset):
                missing.append(Missing(measure.names(), reason))
    return built, missing


def _check_needs(
    measure: type[Measure], setup: Setup, absent: Mapping[Channel, Unavailable]
) -> None:
    if measure.channel() in absent:
        reason = absent[measure.channel()]
        raise Unavailable(reason.why, reason.command, unset=measure.optional)
    if setup.protocol.horizon < measure.min_horizon:
        raise Unavailable(
            f"It needs {measure.min_horizon} predicted frames, and the horizon is "
            f"{setup.protocol.horizon}.",
            f"predict and evaluate again with dataset.rules.n_eval={measure.min_horizon}",
        )


def _build(name: str, recipes: Recipes, setup: Setup) -> Measure:
    # Partial, then called: Hydra would turn the setup, a dataclass, into a config.
    make = instantiate(recipes[name], _partial_=True, _convert_="all")
    try:
        inspect.signature(make.func).bind(setup, **make.keywords)
    except TypeError as error:
        raise ConfigError(
            f"evaluate.measures.{name}: {error}; give the arguments of "
            f"{make.func.__qualname__} after `setup`"
        ) from error
    measure: Measure = make(setup)
    return measure
