"""Optuna search space of a sweep, defined by the model (`model.<key>.search`)."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:  # an optional extra
    from optuna.trial import Trial


def suggest(config: DictConfig, trial: "Trial") -> None:
    """Suggest a value for every key of the search space (`custom_search_space` of Hydra's sweeper).

    Keys with a value or distribution on the command line are left out.

    Args:
        config: composed config of the sweep.
        trial: trial to start.
    """
    for key, space in (config.model[config.stage.model].get("search") or {}).items():
        if key in trial.params or key in trial.user_attrs:
            continue
        if OmegaConf.is_list(space):
            trial.suggest_categorical(key, list(space))
        elif isinstance(space.low, int) and isinstance(space.high, int):
            trial.suggest_int(key, space.low, space.high, log=space.get("log", False))
        else:
            trial.suggest_float(key, space.low, space.high, log=space.get("log", False))
