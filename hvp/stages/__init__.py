"""What `stage=` names: prepare, structure, image, evaluate, pipeline."""

from importlib import import_module

from omegaconf import DictConfig


def run_stage(config: DictConfig) -> None:
    """Check the config, then run the stage it names (one module of this package each)."""
    from hvp.stages.checks import check_config

    check_config(config)
    import_module(f"hvp.stages.{config.stage.name}").run(config)
