"""Stage: what `stage=` names, as a command sees it."""

from typing import Protocol

from hydra.utils import get_class
from omegaconf import DictConfig

from hvp.artifacts.store import Artifact


class Stage(Protocol):
    """Made from the composed config (`stage._target_`); makes its settings from it once."""

    def __init__(self, config: DictConfig) -> None: ...

    def run(self) -> None:
        """Do what the config asks for; what exists for the same settings is not done again."""
        ...

    def find_published(self) -> Artifact | None:
        """What `run` would publish last, if it exists already."""
        ...


def build_stage(config: DictConfig) -> Stage:
    """The stage that the config names."""
    stage: Stage = get_class(config.stage._target_)(config)
    return stage
