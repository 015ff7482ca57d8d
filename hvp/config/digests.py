"""Digests of settings: which of them decide a stage's result.

A result is looked up by these digests: the same settings are never computed twice, and a changed
setting never meets an old result. What is left out is known not to change a result (devices,
logging, how often a checkpoint is written, where raw data lies); everything else counts, also what
this file has never heard of.

Code counts by meaning: classes of this package, and models of any, by their names and versions and
not by import paths, so that moving code orphans nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hvp.files import settings_digest

Settings = dict[str, Any]

# Keys of a Trainer that do not change what is trained, or only through rounding.
_HARMLESS_TRAINER_KEYS = frozenset({
    "_target_", "accelerator", "devices", "num_nodes", "strategy", "deterministic", "benchmark",
    "val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps",
    "limit_test_batches", "limit_predict_batches", "log_every_n_steps", "enable_progress_bar",
    "enable_model_summary", "enable_checkpointing", "inference_mode", "profiler", "detect_anomaly",
    "barebones", "enable_autolog_hparams", "model_registry", "reload_dataloaders_every_n_epochs",
})  # fmt: skip
# Of those, the ones that say what a callback which ends or changes training gets to see.
_VALIDATION_KEYS = (
    "val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps",
)  # fmt: skip
# Callbacks that only watch. What a sweep's pruner ends is never published.
_HARMLESS_CALLBACKS = frozenset({
    "hvp.training.monitors.GradientNorm",
    "hvp.training.monitors.Throughput",
    "hvp.training.samples.ValidationSamples",
    "hvp.sweeps.pruning.SweepReporter",
    "pytorch_lightning.callbacks.DeviceStatsMonitor",
    "pytorch_lightning.callbacks.LearningRateMonitor",
    "pytorch_lightning.callbacks.ModelSummary",
    "pytorch_lightning.callbacks.RichModelSummary",
    "pytorch_lightning.callbacks.RichProgressBar",
    "pytorch_lightning.callbacks.TQDMProgressBar",
    "pytorch_lightning.callbacks.Timer",
})  # fmt: skip
_CHECKPOINT_POLICY = "hvp.training.checkpoints.CheckpointPolicy"
# Of a checkpoint policy, what decides which weights are published.
_POLICY_KEYS = ("monitor", "mode")
# Of a model, what only prediction and sweeps see, and what are defaults of the Trainer's keys.
_OTHER_MODEL_KEYS = (
    "eval_batch_size", "val_check_interval", "max_steps", "max_epochs", "limit_train_batches",
    "search",
)  # fmt: skip
# Of a dataset, what training does not see: which clips are predicted, and who loads them.
_PREDICTION_DATASET_KEYS = ("rollout", "max_eval_clips", "num_workers")
_PREDICTION_RULES = ("n_eval", "eval_offset", "eval_stride", "min_eval_clips")


def plain(node: Any) -> Any:
    """A config node as plain values, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def by_meaning(value: Any) -> Any:
    """Plain settings with the classes of this package by their names, without import paths."""
    if isinstance(value, Mapping):
        return {
            key: _class_name(item) if key == "_target_" else by_meaning(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [by_meaning(item) for item in value]
    return value


def _class_name(target: str) -> str:
    return target.rsplit(".", 1)[-1] if str(target).startswith("hvp.") else target


def model_settings(config: DictConfig) -> Settings:
    """What the config says of the model that its stage trains, by name and version."""
    settings = plain(config.model[config.stage.model])
    for key in _OTHER_MODEL_KEYS:
        settings.pop(key, None)
    del settings["module"]["_target_"]  # the name and the version say it
    meant: Settings = by_meaning(settings)
    return meant


def training_settings(config: DictConfig) -> Settings:
    """What trained weights depend on, but for the content of the data and where training starts.

    `fit_settings` adds those.
    """
    dataset = plain(config.dataset)
    rules = {k: v for k, v in dataset["rules"].items() if k not in _PREDICTION_RULES}
    clips = config.stage.clips
    if clips == "image":
        # The length of its training clips is its own; this is that of validation clips alone.
        del rules["n_future"]
    return {
        "stage": config.stage.name,
        "seed": config.seed,
        "dataset": {
            "name": dataset["name"],
            "version": dataset["version"],
            "size": dataset["size"],
            "rules": by_meaning(rules),
            "flip": dataset["flip"][clips],
            "crop": dataset["image"] if clips == "image" else None,
        },
        "model": model_settings(config),
        "trainer": _trainer_settings(config),
    }


def fit_settings(
    training: Settings, data: Settings, start: str | None, prediction_options: Sequence[str] = ()
) -> Settings:
    """Everything that trained weights depend on.

    Args:
        training: of `training_settings`.
        data: what the training data is (`ClipDataModule.training_data`).
        start: SHA-256 of the checkpoint that training starts from; None for none.
        prediction_options: settings of the model that only its predictions depend on.
    """
    module = {k: v for k, v in training["model"]["module"].items() if k not in prediction_options}
    model = {**training["model"], "module": module}
    return {**training, "model": model, "data": data, "start": start}


def _trainer_settings(config: DictConfig) -> Settings:
    trainer = {k: v for k, v in plain(config.trainer).items() if k not in _HARMLESS_TRAINER_KEYS}
    callbacks = _deciding_callbacks(config)
    if callbacks:
        trainer["validation"] = {key: config.trainer.get(key) for key in _VALIDATION_KEYS}
    return {**by_meaning(trainer), "callbacks": by_meaning(callbacks)}


def _deciding_callbacks(config: DictConfig) -> Settings:
    """The callbacks that can end or change training, or choose what is published."""
    deciding = {}
    for name, node in config.callbacks.items():
        if node is None or node._target_ in _HARMLESS_CALLBACKS:
            continue
        settings = plain(node)
        if node._target_ == _CHECKPOINT_POLICY:
            settings = {key: settings[key] for key in _POLICY_KEYS}
            if settings["monitor"] is None:
                continue
        deciding[str(name)] = settings
    return deciding


def predict_settings(config: DictConfig) -> Settings:
    """What predictions depend on, but for their inputs, the data and the model's own options."""
    dataset = plain(config.dataset)
    return {
        "stage": f"{config.stage.name}-predictions",
        "seed": config.seed,
        "dataset": {
            "name": dataset["name"],
            "version": dataset["version"],
            "size": dataset["size"],
            "rules": by_meaning(dataset["rules"]),
            "rollout": dataset["rollout"],
            "max_eval_clips": dataset["max_eval_clips"],
        },
    }


def run_digest(config: DictConfig) -> str:
    """Twelve hex digits that name the output directory of this config's run.

    Known before any data is looked at: where raw data lies stands for what it holds.
    """
    places = _dataset_by_place(config)
    if config.stage.get("model") is not None:
        start = config.checkpoint if config.fit else None
        settings = fit_settings(training_settings(config), places, start)
        return settings_digest(settings)[:12]
    settings = {key: plain(config[key]) for key in ("seed", "model")}
    settings |= {"stage": config.stage.name, "dataset": {**_dataset(config), "data": places}}
    if config.stage.name == "evaluate":
        keys = ("checkpoint", "predictions", "videos", "evaluate")
        settings |= {key: plain(config[key]) for key in keys}
        del settings["evaluate"]["device"]
    return settings_digest(by_meaning(settings))[:12]


def job_digest(config: DictConfig) -> str:
    """Digest of all that the result of a sweep's job depends on, whatever its stage."""
    keys = ("fit", "predict", "checkpoint", "predictions", "videos", "evaluate")
    settings = {key: plain(config[key]) for key in keys}
    settings |= {"run": run_digest(config), "dataset": _dataset(config)}
    return settings_digest(by_meaning(settings))


def _dataset(config: DictConfig) -> Settings:
    """The dataset's settings without its reader's and without who loads it."""
    dataset: Settings = plain(config.dataset)
    for key in ("datamodule", "num_workers", "extract_labels"):
        dataset.pop(key, None)
    return dataset


def _dataset_by_place(config: DictConfig) -> Settings:
    """The reader's settings, with one spelling of each folder."""
    reader = plain(config.dataset.datamodule)
    for key, value in reader.items():
        if key.endswith("root") and value is not None:
            reader[key] = str(Path(value).expanduser().resolve())
    if isinstance(reader.get("extract_labels"), dict):  # not how many at a time, and into where
        wanted = ("model", "revision")
        reader["extract_labels"] = {key: reader["extract_labels"].get(key) for key in wanted}
    meant: Settings = by_meaning(reader)
    return meant
