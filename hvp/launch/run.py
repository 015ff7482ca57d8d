"""Run one stage: check its config, then start it here or on every device."""

from omegaconf import DictConfig, OmegaConf

from hvp.config.resolvers import command_line


def run_stage(config: DictConfig) -> None:
    """Check the config, then run the stage it names.

    A stage that trains, on several devices, runs once per device, in processes started from here. A
    training that the pruner of a sweep ends has no result; its job's record says so.
    """
    from hvp.config.checks import check_config  # these load torch, which takes seconds

    check_config(config)
    if config.stage.get("model") is not None:
        from hvp.launch import ranks
        from hvp.training import requeue

        if requeue.in_slurm_job():
            requeue.listen()
        n_ranks = ranks.wanted(config.trainer.devices, config.trainer.accelerator)
        if n_ranks > 1 and not ranks.started_by_launcher():
            ranks.launch(_of_ranks(config, n_ranks), n_ranks)
            return
    from hvp.artifacts.wandb.run import job
    from hvp.errors import TrainingPruned
    from hvp.launch.stage import build_stage
    from hvp.log import quiet_lightning, say

    stage = build_stage(config)
    quiet_lightning()
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    with job({str(key): value for key, value in settings.items() if key != "command_line"}):
        try:
            stage.run()
        except TrainingPruned as pruned:  # an end like any other: its record says how it ended
            say(f"{config.stage.name}: {pruned}")


def _of_ranks(config: DictConfig, n_ranks: int) -> DictConfig:
    """The config as each rank gets it: resolved, with what Hydra knows of the command line."""
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(resolved, DictConfig)
    resolved.trainer.devices = n_ranks
    resolved.command_line = list(command_line())
    return resolved
