"""Search space of a sweep: what Optuna varies is what the model says (`model.<key>.search`)."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:  # an optional extra
    from optuna.trial import Trial


def suggest(config: DictConfig, trial: "Trial") -> None:
    """Have a trial choose a value for every key (`custom_search_space` of Hydra's sweeper).

    Keys that the command line gives a value or a distribution of its own are left to it.

    Args:
        config: the composed config of the sweep.
        trial: the trial that begins.
    """
    for key, space in config.model[config.stage.model].search.items():
        if key in trial.params or key in trial.user_attrs:
            continue
        if OmegaConf.is_list(space):
            trial.suggest_categorical(key, list(space))
        elif isinstance(space.low, int) and isinstance(space.high, int):
            trial.suggest_int(key, space.low, space.high, log=space.get("log", False))
        else:
            trial.suggest_float(key, space.low, space.high, log=space.get("log", False))
