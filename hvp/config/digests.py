"""Which settings decide a stage's result, and the digests made from them.

A result is looked up by these digests: the same settings are never computed twice, and a changed
setting never meets an old result. Settings that cannot change a result (devices, logging, paths,
how often a checkpoint is written) are left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hvp.files import settings_digest
from hvp.labels import load_label_space

TRAINING_STAGES = ("structure", "image", "svg_rgb")
"""The stages that train a model, and then predict with it."""

# Of a Trainer, what changes the trained weights. Devices and strategy do only through rounding.
_TRAINER_KEYS = (
    "max_steps", "max_epochs", "max_time", "limit_train_batches", "overfit_batches", "precision",
    "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm",
)  # fmt: skip
# Of a dataset, what training does not see: which clips are predicted, how, and who loads them.
_PREDICTION_KEYS = ("rollout", "max_eval_clips", "num_workers")
_PREDICTION_RULES = ("n_eval", "eval_offset", "eval_stride", "min_eval_clips")
# Of a synthetic world, the same: how many drives are predicted.
_PREDICTION_DATA = ("n_test",)
# Of label extraction, what the label maps depend on.
_EXTRACTION_KEYS = ("model", "revision")


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _dataset(config: DictConfig) -> dict[str, Any]:
    """The dataset's settings, without where label maps are made and how many at a time."""
    return _without_extraction_costs(_plain(config.dataset))


def _without_extraction_costs(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    kept = {key: _without_extraction_costs(value) for key, value in node.items()}
    if isinstance(kept.get("extract_labels"), dict):
        kept["extract_labels"] = {key: kept["extract_labels"][key] for key in _EXTRACTION_KEYS}
    return kept


def clips_of(stage: str) -> str:
    """Which of the two stages' training clips `stage` has: svg_rgb those of stage one."""
    return "image" if stage == "image" else "structure"


def fit_settings(config: DictConfig) -> dict[str, Any]:
    """What the weights that the stage of this config trains depend on."""
    stage = config.stage.name
    dataset = _dataset(config)
    for key in _PREDICTION_KEYS:
        del dataset[key]
    for key in _PREDICTION_RULES:
        del dataset["rules"][key]
    for key in _PREDICTION_DATA:
        dataset["datamodule"].pop(key, None)
    settings = {
        "stage": stage,
        "seed": config.seed,
        "checkpoint": config.checkpoint if config.fit else None,
        "dataset": dataset,
        "model": _plain(config.model[stage]),
        "trainer": {key: config.trainer[key] for key in _TRAINER_KEYS if key in config.trainer},
    }
    if stage == "image":
        settings["flow"] = _plain(config.flow)
        # The length of its training clips is its own; this is that of validation clips alone.
        del dataset["rules"]["n_future"]
    else:
        del dataset["image"]
    dataset["flip"] = dataset["flip"][clips_of(stage)]
    return settings


def predict_settings(config: DictConfig, inputs: list[str]) -> dict[str, Any]:
    """What a stage's predictions depend on, `inputs` being its artifacts (or a file's digest)."""
    dataset = _dataset(config)
    del dataset["num_workers"]
    return {
        "stage": f"{config.stage.name}-predictions",
        "seed": config.seed,
        "dataset": dataset,
        "inputs": inputs,
    }


def run_digest(config: DictConfig) -> str:
    """Twelve hex digits that name the output directory of this config's run."""
    if config.stage.name in TRAINING_STAGES:
        return settings_digest(fit_settings(config))[:12]
    settings = {key: _plain(config[key]) for key in ("stage", "seed", "model")}
    settings["dataset"] = _dataset(config)
    if config.stage.name == "evaluate":
        keys = ("checkpoint", "predictions", "videos", "evaluate")
        settings |= {key: _plain(config[key]) for key in keys}
        del settings["evaluate"]["device"]
    return settings_digest(settings)[:12]


def job_digest(config: DictConfig) -> str:
    """Digest of all that the result of a sweep's job depends on, whatever its stage."""
    keys = ("stage", "fit", "predict", "checkpoint", "predictions", "videos", "evaluate")
    settings = {key: _plain(config[key]) for key in keys}
    return settings_digest({**settings, "run": run_digest(config), "dataset": _dataset(config)})


def in_sweep() -> bool:
    """Whether this process runs the jobs of a sweep (`-m`)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def slurm_without_sweep() -> bool:
    """Whether this run, which is no sweep, was given one of the SLURM launchers."""
    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    launcher = str(hydra.launcher.get("_target_", ""))
    return hydra.mode == RunMode.RUN and launcher.endswith("SlurmLauncher")


def sweep_record() -> Path | None:
    """Where the sweep keeps the record of the job that runs now; None outside of a sweep."""
    if not in_sweep():
        return None
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir) / "jobs" / f"{hydra.job.num}.json"


def _sweep_name(stage: str, dataset: str, overrides: DictConfig) -> str:
    """Name of a sweep's directory, by its overrides: the same command finds its own jobs."""
    sweeper = [o for o in overrides.hydra if o.startswith(("hydra/sweeper", "hydra.sweeper"))]
    digest = settings_digest([*overrides.task, *sweeper])[:12]
    return f"sweep-{stage}-{dataset}-{digest}"


def _of_training(key: str, *, _root_: DictConfig) -> Any:
    """`key` of the model that this config's stage trains; None in stages that train none."""
    model = _root_.model.get(_root_.stage.name)
    return None if model is None else model[key]


def _group(*, _root_: DictConfig) -> str:
    """Which runs belong together: those of a sweep, else those of a stage on a dataset."""
    if in_sweep():
        return Path(HydraConfig.get().sweep.dir).name
    return f"{_root_.stage.name}-{_root_.dataset.name}"


def _choices() -> str:
    """The config groups and what can be chosen of each, a line per group, for `--help`.

    Hydra's own list also names the parts that files of a group are made of (`_base`).
    """
    loader = GlobalHydra.instance().config_loader()

    def lines(parent: str) -> Iterator[str]:
        for name in sorted(loader.list_groups(parent)):
            group = f"{parent}/{name}" if parent else name
            if group == "hydra":
                continue
            choices = [c for c in loader.get_group_options(group) if not c.startswith("_")]
            if choices:
                yield f"{group}: {', '.join(sorted(choices))}"
            yield from lines(group)

    return "\n".join(lines(""))


def _logs_to_wandb(*, _root_: DictConfig) -> bool:
    """Whether one of the loggers is W&B."""
    return _root_.logger.get("wandb") is not None and _root_.wandb.mode != "disabled"


def register_resolvers() -> None:
    """Make the resolvers that conf/ uses known to OmegaConf; safe to call twice."""
    OmegaConf.register_new_resolver("hvp.training", _of_training, replace=True)
    OmegaConf.register_new_resolver(
        "hvp.run_digest", lambda *, _root_: run_digest(_root_), replace=True
    )
    OmegaConf.register_new_resolver("hvp.group", _group, replace=True)
    OmegaConf.register_new_resolver("hvp.choices", _choices, replace=True)
    # Hydra hands the answer for the whole sweep on to its jobs, as the cache goes by the arguments'
    # text and not by what they are in a job.
    OmegaConf.register_new_resolver("hvp.sweep_name", _sweep_name, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "hvp.sweep_record", lambda: None if (p := sweep_record()) is None else str(p), replace=True
    )
    OmegaConf.register_new_resolver("hvp.logs_to_wandb", _logs_to_wandb, replace=True)
    OmegaConf.register_new_resolver(
        "hvp.n_classes", lambda source: load_label_space(source).n_classes, replace=True
    )
