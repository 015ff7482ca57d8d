"""What can be wrong with a config is found here, before anything heavy starts."""

from omegaconf import DictConfig, OmegaConf

from hvp.artifacts.store import check_alias
from hvp.config.resolvers import slurm_without_sweep
from hvp.errors import ArtifactError, ConfigError
from hvp.labels import load_label_space


def check_config(config: DictConfig) -> None:
    """Raise `ConfigError` for missing, contradictory or out-of-range settings."""
    _check_appended_keys(config)
    _check_launcher(config)
    load_label_space(config.dataset.classes)  # says what is wrong with a class file
    _check_missing(config)
    _check_toggles(config)
    _check_dataset(config)
    _check_aliases(config)
    _check_wandb(config)
    _check_sweep(config)
    if config.stage.get("model") is not None:
        _check_trainer(config)


def _check_appended_keys(config: DictConfig) -> None:
    known = {
        "stage", "dataset", "model", "trainer", "flow", "artifacts", "logger", "callbacks", "seed",
        "data_root", "work_dir", "data_dir", "output_dir", "fit", "predict", "checkpoint",
        "predictions", "videos", "aliases", "evaluate", "force", "wandb", "sweep", "video_fps",
        "command_line",  # what ranks are told of it
    }  # fmt: skip
    unknown = sorted(set(map(str, config)) - known)
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]}: no stage reads it; see --help for the keys")


def _check_launcher(config: DictConfig) -> None:
    if slurm_without_sweep() and config.stage.name != "pipeline":
        raise ConfigError(
            f"hydra/launcher is one for SLURM, but Hydra submits jobs only with -m: add it (python "
            f"run.py -m stage={config.stage.name} ...), or leave hydra/launcher out to run here"
        )


def _check_missing(config: DictConfig) -> None:
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise ConfigError(f"{min(missing)} has no value; give it on the command line")
    if "root" in config.dataset.datamodule and config.dataset.datamodule.root is None:
        raise ConfigError(
            f"data_root is not set: dataset={config.dataset.name} reads raw data from disk; "
            "add data_root=/path/to/it"
        )


def _check_toggles(config: DictConfig) -> None:
    for key in ("fit", "predict", "force"):
        if not isinstance(config[key], bool):
            raise ConfigError(f"{key}={config[key]}: expected true or false")
    if not isinstance(config.seed, int) or config.seed < 0:
        raise ConfigError(f"seed={config.seed}: expected an integer >= 0")
    if config.stage.get("model") is not None and not (config.fit or config.predict):
        raise ConfigError("fit=false and predict=false: nothing to do; set one of them to true")
    if config.stage.name == "pipeline":
        if config.checkpoint is not None:
            raise ConfigError(
                "checkpoint is set, but stage=pipeline trains two models; run stage=structure or "
                "stage=image with checkpoint=..., then the pipeline goes on from their artifacts"
            )
        if not config.predict:
            raise ConfigError(
                "predict=false: stage=pipeline needs predictions; run the stages alone"
            )


def _check_dataset(config: DictConfig) -> None:
    dataset = config.dataset
    size = list(dataset.size)
    if len(size) != 2 or any(not isinstance(n, int) or n < 1 for n in size):
        raise ConfigError(f"dataset.size={size}: expected [height, width] in pixels")
    if dataset.rollout.samples < 1:
        raise ConfigError(f"dataset.rollout.samples={dataset.rollout.samples}: expected at least 1")
    if dataset.max_eval_clips is not None and dataset.max_eval_clips < 1:
        raise ConfigError(f"dataset.max_eval_clips={dataset.max_eval_clips}: at least 1, or null")


def _check_aliases(config: DictConfig) -> None:
    if not OmegaConf.is_list(config.aliases):
        raise ConfigError(f"aliases={config.aliases}: expected a list, [best]")
    try:
        for alias in config.aliases:
            check_alias(str(alias))
    except ArtifactError as error:
        raise ConfigError(f"aliases={list(config.aliases)}: {error}") from error


def _check_wandb(config: DictConfig) -> None:
    mode = config.wandb.mode
    if mode not in ("online", "offline", "disabled"):
        raise ConfigError(f"wandb.mode={mode}: choose online, offline or disabled")
    for key in ("init_timeout", "finish_timeout", "patience"):
        if not config.wandb[key] > 0:
            raise ConfigError(f"wandb.{key}={config.wandb[key]}: expected seconds, more than 0")
    if config.artifacts._target_.endswith(".WandbStore") and mode != "online":
        raise ConfigError(
            f"artifacts=wandb with wandb.mode={mode}: only a run that is online can read artifacts "
            "back; use artifacts=auto, which also keeps them here, or wandb.mode=online"
        )


def _check_sweep(config: DictConfig) -> None:
    direction = config.sweep.direction
    if direction not in ("minimize", "maximize"):
        raise ConfigError(f"sweep.direction={direction}: choose minimize or maximize")
    if config.sweep.pruner is not None and config.sweep.metric is None:
        raise ConfigError(
            "sweep.pruner is set, but sweep.metric is null: a pruner compares jobs by a metric; "
            "name one, or use sweep.pruner=null"
        )


def _check_trainer(config: DictConfig) -> None:
    if config.stage.name == "image" and "ShardedStrategy" in str(config.trainer.strategy):
        raise ConfigError(
            "trainer=fsdp: stage=image has two optimizers, which are not sharded; use "
            "trainer=ddp for it"
        )
    devices, batch_size = config.trainer.devices, config.model[config.stage.model].batch_size
    if config.fit and isinstance(devices, int) and devices > 0:
        n_ranks = devices * config.trainer.num_nodes
        if batch_size % n_ranks:
            raise ConfigError(
                f"model.{config.stage.model}.batch_size={batch_size}: counts clips over all ranks "
                f"together and is not divisible by {n_ranks} of them; choose a multiple"
            )
    if config.fit and config.trainer.max_steps < 1 and config.trainer.max_epochs < 1:
        raise ConfigError(
            "trainer.max_steps and trainer.max_epochs are both without a limit: training would "
            "never end; set one of them"
        )
