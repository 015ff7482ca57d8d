"""The front door: `python run.py stage=... dataset=...`; `--help` lists the groups and keys."""

from hvp.signals import handle_signals

if __name__ == "__main__":
    handle_signals()  # before what takes long to import

import hydra
from omegaconf import DictConfig

from hvp.config.resolvers import in_sweep, register_resolvers
from hvp.launch.door import front_door, one_sentence_errors

register_resolvers()


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the stage that the composed config names; a sweep's job returns what ranks it."""
    with one_sentence_errors():
        if in_sweep():
            from hvp.sweeps.job import run_sweep_job

            return run_sweep_job(config)
        from hvp.launch.run import run_stage  # torch loads only once the config has composed

        run_stage(config)
    return None


if __name__ == "__main__":
    with front_door():
        main()
