"""The front door: `python run.py stage=... dataset=...`; `--help` lists the groups and keys."""

import sys

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from hvp.config.resolvers import in_sweep, register_resolvers
from hvp.errors import HVPError

register_resolvers()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the stage that the composed config names; a sweep's job returns what ranks it."""
    from hvp.launch.run import run_stage  # torch loads only once the config has composed
    from hvp.sweeps.job import run_sweep_job

    try:
        if in_sweep():
            return run_sweep_job(config)
        run_stage(config)
    except HVPError as error:
        sys.exit(f"error: {error}")
    except InstantiationException as error:  # Hydra wraps what a _target_ raises
        if not isinstance(error.__cause__, HVPError):
            raise
        sys.exit(f"error: {error.__cause__}")
    return None


if __name__ == "__main__":
    main()
