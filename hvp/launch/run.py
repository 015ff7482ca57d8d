"""Run one stage: check its config, then start it here or on every device."""

from importlib import import_module

from omegaconf import DictConfig, OmegaConf


def run_stage(config: DictConfig) -> None:
    """Check the config, then run the stage it names (one module of this package each).

    A training stage on several devices runs once per device, in processes started from here. A
    training that the pruner of a sweep ends has no result; its job's record says so.
    """
    from hvp.config.checks import check_config
    from hvp.config.digests import TRAINING_STAGES

    check_config(config)
    if config.stage.name in TRAINING_STAGES:
        from hvp.launch import ranks
        from hvp.training import requeue

        if requeue.in_slurm_job():
            requeue.listen()
        n_ranks = ranks.wanted(config)
        if n_ranks > 1 and not ranks.started_by_launcher():
            ranks.launch(config, n_ranks)
            return
    from hvp.artifacts.wandb.run import job
    from hvp.errors import TrainingPruned
    from hvp.log import quiet_lightning, say

    stage = import_module(f"hvp.stages.{config.stage.name}")
    quiet_lightning()
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    with job({str(key): value for key, value in settings.items()}):
        try:
            stage.run(config)
        except TrainingPruned as pruned:  # an end like any other: its record says how it ended
            say(f"{config.stage.name}: {pruned}")
