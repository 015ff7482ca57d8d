"""Stage protocol: interface of the classes in `stage._target_`."""

from typing import Protocol

from hydra.utils import get_class
from omegaconf import DictConfig

from hvp.artifacts.store import Artifact


class Stage(Protocol):
    """Stage protocol; constructed from the composed config, which it converts to settings."""

    def __init__(self, config: DictConfig) -> None: ...

    def run(self) -> None:
        """Run the stage; results that exist for the same settings are reused."""
        ...

    def find_published(self) -> Artifact | None:
        """Existing artifact of `run` for these settings, if any."""
        ...


def build_stage(config: DictConfig) -> Stage:
    """Construct the stage of the config."""
    stage: Stage = get_class(config.stage._target_)(config)
    return stage
