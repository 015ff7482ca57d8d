"""Run one stage: check the config, then run in this process or launch one rank per device."""

from omegaconf import DictConfig, OmegaConf

from hvp.config.resolvers import command_line


def run_stage(config: DictConfig) -> None:
    """Check the config, then run its stage.

    A stage that trains on several devices is launched as one process per device. A training that a
    sweep's pruner stops has no result; the job's record says so.
    """
    from hvp.config.checks import check_config  # imported late: loads torch, which takes seconds

    check_config(config)
    if config.stage.get("model") is not None:
        from hvp.launch import ranks
        from hvp.training import requeue

        requeue.install_signal_handlers()
        n_ranks = ranks.local_world_size(config.trainer.devices, config.trainer.accelerator)
        if n_ranks > 1 and not ranks.started_by_launcher():
            ranks.launch(_rank_config(config, n_ranks), n_ranks)
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
        except TrainingPruned as pruned:  # a normal end, in the job's record
            say(f"{config.stage.name}: {pruned}")


def _rank_config(config: DictConfig, n_ranks: int) -> DictConfig:
    """Config of the ranks: resolved, with the command line, which they do not get from Hydra."""
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(resolved, DictConfig)
    resolved.trainer.devices = n_ranks
    resolved.command_line = list(command_line())
    return resolved
