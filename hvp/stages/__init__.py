"""What `stage=` names: prepare, structure, image, evaluate, svg_rgb, pipeline."""

from importlib import import_module

from omegaconf import DictConfig


def run_stage(config: DictConfig) -> None:
    """Check the config, then run the stage it names (one module of this package each).

    A training stage on several devices runs once per device, in processes started from here.
    """
    from hvp.stages.checks import check_config

    check_config(config)
    if config.stage.name in ("structure", "image", "svg_rgb"):
        from hvp.stages import ranks

        n_ranks = ranks.wanted(config)
        if n_ranks > 1 and not ranks.started_by_launcher():
            ranks.launch(config, n_ranks)
            return
    import_module(f"hvp.stages.{config.stage.name}").run(config)
