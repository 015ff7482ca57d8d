"""What can be wrong with a config is found here, before anything heavy starts.

Each mistake is a `ConfigError` of one sentence: the key, what was found, what is allowed, what to
do. The most basic come first.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hvp.artifacts.store import check_alias
from hvp.config.checks.command_line import KEYS, check_added, check_choices
from hvp.config.checks.launcher import check_slurm
from hvp.config.checks.places import check_places, check_raw_data
from hvp.config.checks.table import MODEL_RULES, RULES
from hvp.config.checks.targets import check_targets, locate
from hvp.config.digests import run_digest
from hvp.config.pipeline import TRAINED
from hvp.config.resolvers import UNREADABLE, slurm_without_sweep
from hvp.errors import ArtifactError, ConfigError, DataError
from hvp.labels import LabelSpace, load_label_space
from hvp.values import (
    GROUP,
    Kind,
    Rule,
    check_rules,
    check_value,
    groups_of,
    or_null,
    shown,
    value_at,
)

if TYPE_CHECKING:
    from hvp.model import ClipFacts

Settings = dict[str, Any]

_ABSENT = object()
_ENTRY = Kind(
    "a group with a _target_",
    lambda value: isinstance(value, dict) and "_target_" in value,
    advice="+{key}._target_=package.module.Class makes one",
)
_ENTRIES = ("callbacks", "logger")  # groups of things that Hydra builds, or null
_BUILT = ("artifacts", "wandb", "sweep")  # groups that it builds as a whole, or in part


def check_config(config: DictConfig) -> None:
    """Check all settings of a run.

    Raises:
        ConfigError: the first that is missing, contradictory, of the wrong type or out of range.
    """
    check_added(config)
    _check_shape(config)
    check_choices()
    _check_launcher(config)
    settings = _resolved(config)
    check_rules(settings, RULES, "")
    _check_names(settings)
    space = _label_space(settings)
    check_places(settings)
    _check_run(settings)
    _check_wandb(settings)
    _check_sweep(settings)
    trained = _trained(settings["stage"])
    for name in trained:
        check_rules(settings["model"][name], MODEL_RULES, f"model.{name}")
    # Torch and Lightning, which take seconds to import, only once all this is right.
    from hvp.config.checks.models import check_accelerator, check_training

    clips = _check_dataset(settings, space)
    _check_built(settings)
    for name in trained:
        trainer = _resolved(_as_stage(config, name).trainer)
        check_training({**settings, "trainer": trainer}, clips, name)
        if not slurm_without_sweep():  # else it trains on another machine
            check_accelerator(trainer)
    _check_digest(config)


def _check_launcher(config: DictConfig) -> None:
    if HydraConfig.initialized():
        check_slurm(HydraConfig.get().launcher)
    if slurm_without_sweep() and config.stage.name != "pipeline":
        raise ConfigError(
            f"hydra/launcher is one for SLURM, but Hydra submits jobs only with -m: add it (python "
            f"run.py -m stage={config.stage.name} ...), or leave hydra/launcher out to run here"
        )


def _check_shape(config: DictConfig) -> None:
    """The groups and keys that every run reads are there; values come later."""
    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)
    groups = groups_of(RULES)
    for key in (*sorted(KEYS), *groups):
        if value_at(raw, key, _ABSENT) is not _ABSENT:
            continue
        raise ConfigError(
            f"{key} has no value: it was taken away (~{key}, or {key}=[]), but every run reads it; "
            "leave that out"
        )
    check_rules({str(k): v for k, v in raw.items()}, dict.fromkeys(groups, Rule(GROUP)), "")
    name = raw["stage"].get("model")
    models = [str(key) for key, node in raw["model"].items() if isinstance(node, dict)]
    if name is not None and name not in models:
        raise ConfigError(
            f"stage.model={name}: expected one of {', '.join(models)}, the models of this config; "
            "stage.model follows from stage=..., leave it out"
        )
    for name in _trained(raw["stage"]):
        check_value(f"model.{name}", raw["model"].get(name), Rule(GROUP))


def _check_built(settings: Settings) -> None:
    for group in _ENTRIES:
        for name, node in settings[group].items():
            check_value(f"{group}.{name}", node, Rule(or_null(_ENTRY)))
        check_targets(settings[group], group)
    for group in _BUILT:
        check_targets(settings[group], group, given=None)


def _trained(stage: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys below `model` of what this run trains."""
    if stage["name"] == "pipeline":
        return TRAINED
    return () if stage.get("model") is None else (stage["model"],)


def _as_stage(config: DictConfig, name: str) -> DictConfig:
    """The config as the stage that trains `model.<name>` has it: the Trainer's keys follow that."""
    if config.stage.get("model") == name:
        return config
    merged = OmegaConf.merge(config, {"stage": {"name": name, "model": name}})
    assert isinstance(merged, DictConfig)
    return merged


def _resolved(config: DictConfig) -> Settings:
    """The config as plain values.

    Raises:
        ConfigError: a key without value, or an interpolation that leads nowhere.
    """
    try:
        missing = OmegaConf.missing_keys(config)
        settings = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{error.full_key or 'the config'}: cannot be resolved ({reason}); give it a value, or "
            "leave out what takes its source away"
        ) from error
    if missing:
        raise ConfigError(f"{min(missing)} has no value; give it on the command line")
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def _check_names(settings: Settings) -> None:
    try:
        for alias in settings["aliases"]:
            check_alias(alias)
    except ArtifactError as error:
        raise ConfigError(f"aliases={shown(settings['aliases'])}: {error}") from error


def _label_space(settings: Settings) -> LabelSpace:
    dataset = settings["dataset"]
    try:
        space = load_label_space(dataset["classes"])
    except DataError as error:
        reason = str(error).removeprefix(f"label classes {dataset['classes']!r}: ")
        raise ConfigError(f"dataset.classes={dataset['classes']}: {reason}") from error
    if dataset["n_classes"] != space.n_classes:
        raise ConfigError(
            f"dataset.n_classes={shown(dataset['n_classes'])}: expected {space.n_classes}, the "
            f"classes of dataset.classes={dataset['classes']}; leave it out, it follows from those"
        )
    return space


def _check_run(settings: Settings) -> None:
    """What fits together of the keys that say what the run does."""
    stage, checkpoint = settings["stage"], settings["checkpoint"]
    if stage.get("model") is not None and not (settings["fit"] or settings["predict"]):
        raise ConfigError("fit=false and predict=false: nothing to do; set one of them to true")
    if stage["name"] == "pipeline":
        if checkpoint is not None:
            raise ConfigError(
                "checkpoint is set, but stage=pipeline trains two models; run stage=structure or "
                "stage=image with checkpoint=..., then the pipeline goes on from their artifacts"
            )
        if not settings["predict"]:
            raise ConfigError(
                "predict=false: stage=pipeline needs predictions; run the stages alone"
            )
    if checkpoint is not None and checkpoint.endswith(".ckpt") and not Path(checkpoint).is_file():
        raise ConfigError(
            f"checkpoint={checkpoint}: no such file (from {Path.cwd()}); give a .ckpt file that "
            "exists, or an artifact, NAME:latest"
        )
    _check_crop(settings["dataset"]["size"], settings["dataset"]["image"])
    if stage["name"] != "dashboard" and not settings["evaluate"].get("compare"):
        check_raw_data(settings)
    predictions = settings["evaluate"].get("predictions")
    if predictions is not None and not Path(predictions.removeprefix("folder:")).is_dir():
        raise ConfigError(
            f"evaluate.predictions={predictions}: no such folder (from {Path.cwd()}); give one "
            "that exists, evaluate.predictions=folder:PATH"
        )


def _check_dataset(settings: Settings, space: LabelSpace) -> "ClipFacts":
    from hvp.data.datamodule import ClipDataModule
    from hvp.model import ClipFacts

    dataset = settings["dataset"]
    key = "dataset.datamodule"
    path = dataset["datamodule"].get("_target_")
    found = locate(path, key)
    if not (inspect.isclass(found) and issubclass(found, ClipDataModule)):
        raise ConfigError(
            f"{key}._target_={path}: is no data module; expected a subclass of "
            "hvp.data.datamodule.ClipDataModule"
        )
    if found.label_space_name not in (None, space.name):
        raise ConfigError(
            f"dataset.classes={dataset['classes']}: expected {found.label_space_name}, the classes "
            f"that {found.__name__} reads; leave it out, or use dataset=folder for your own classes"
        )
    found.check_settings(dataset["datamodule"], key)
    for name in ("rules", "extract_labels", "datamodule"):
        check_targets(dataset.get(name), f"dataset.{name}", given=None)
    rules = dataset["rules"]
    return ClipFacts(
        space,
        (dataset["size"][0], dataset["size"][1]),
        rules["n_past"],
        rules["n_future"],
        exact_flow=found.has_flow and rules["step"] == 1,
    )


def _check_crop(size: list[int], image: Mapping[str, Any]) -> None:
    """Pictures are stored at source_size, resized to load_size and cropped to size."""
    load, source = image["load_size"], image["source_size"]
    if load is None and source is not None and source != size:
        raise ConfigError(
            f"dataset.image.source_size={shown(source)}: needs dataset.image.load_size, the size "
            f"that is cropped to dataset.size={shown(size)}; give that too, or leave both null"
        )
    if load is not None and any(a < b for a, b in zip(load, size, strict=True)):
        raise ConfigError(
            f"dataset.image.load_size={shown(load)}: expected at least dataset.size={shown(size)}, "
            "which is cut out of it; give larger ones, or null for no crop"
        )


def _check_wandb(settings: Settings) -> None:
    mode = settings["wandb"]["mode"]
    if str(settings["artifacts"].get("_target_")).endswith(".WandbStore") and mode != "online":
        raise ConfigError(
            f"artifacts=wandb with wandb.mode={mode}: only a run that is online can read artifacts "
            "back; use artifacts=auto, which also keeps them here, or wandb.mode=online"
        )


def _check_sweep(settings: Settings) -> None:
    sweep = settings["sweep"]
    if sweep["pruner"] is not None and sweep["metric"] is None:
        raise ConfigError(
            "sweep.pruner is set, but sweep.metric is null: a pruner compares jobs by a metric; "
            "name one, or use sweep.pruner=null"
        )


def _check_digest(config: DictConfig) -> None:
    """The settings must have a digest, which names the output directory."""
    try:
        run_digest(config)
    except UNREADABLE as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"the settings of this run cannot be read ({reason}); a group or key that every run "
            "has was taken away or replaced: leave that out"
        ) from error
