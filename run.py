"""The front door: `python run.py stage=... dataset=...`; `--help` lists the groups and keys."""

import sys

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from hvp.errors import HVPError
from hvp.stages.settings import register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """Run the stage that the composed config names."""
    from hvp.stages import run_stage  # torch loads only once the config has composed

    try:
        run_stage(config)
    except HVPError as error:
        sys.exit(f"error: {error}")
    except InstantiationException as error:  # Hydra wraps what a _target_ raises
        if not isinstance(error.__cause__, HVPError):
            raise
        sys.exit(f"error: {error.__cause__}")


if __name__ == "__main__":
    main()
