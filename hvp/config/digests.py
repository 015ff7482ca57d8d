"""Digests (cache keys) of settings: those that a stage's result depends on.

Results are looked up by these digests: equal settings are computed once, and a changed setting
never finds an old result. Settings known not to change a result are excluded (devices, logging,
checkpoint interval, location of raw data); all others count, including unknown keys.

Classes of this package, and models of any, count by name and version, not by import path, so that
moving code invalidates nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hvp.files import settings_digest

Settings = dict[str, Any]

# Trainer arguments that do not change the trained weights, except for rounding.
_HARMLESS_TRAINER_KEYS = frozenset({
    "_target_", "accelerator", "devices", "num_nodes", "strategy", "deterministic", "benchmark",
    "val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps",
    "limit_test_batches", "limit_predict_batches", "log_every_n_steps", "enable_progress_bar",
    "enable_model_summary", "enable_checkpointing", "inference_mode", "profiler", "detect_anomaly",
    "barebones", "enable_autolog_hparams", "model_registry", "reload_dataloaders_every_n_epochs",
})  # fmt: skip
# Those of them that matter if a callback ends or changes training.
_VALIDATION_KEYS = (
    "val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps",
)  # fmt: skip
# Callbacks that only log. A pruned training is never published.
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
})  # fmt: skip
_CHECKPOINT_POLICY = "hvp.training.checkpoints.CheckpointPolicy"
# Arguments of the checkpoint policy that decide which weights are published.
_POLICY_KEYS = ("monitor", "mode")
# Keys of a model for prediction and sweeps only, and defaults of Trainer arguments.
_OTHER_MODEL_KEYS = (
    "eval_batch_size", "val_check_interval", "max_steps", "max_epochs", "limit_train_batches",
    "search",
)  # fmt: skip
# Rules of test clips, which do not affect training.
_PREDICTION_RULES = ("n_eval", "eval_offset", "eval_stride", "min_eval_clips")


def plain(node: Any) -> Any:
    """Convert a config node to plain containers, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def without_import_paths(value: Any) -> Any:
    """Replace import paths (`_target_`) of this package by class names, in plain settings."""
    if isinstance(value, Mapping):
        return {
            key: _class_name(item) if key == "_target_" else without_import_paths(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_import_paths(item) for item in value]
    return value


def _class_name(target: str) -> str:
    return target.rsplit(".", 1)[-1] if str(target).startswith("hvp.") else target


def model_settings(config: DictConfig) -> Settings:
    """Settings of the stage's model that its weights depend on, without import path."""
    settings = plain(config.model[config.stage.model])
    for key in _OTHER_MODEL_KEYS:
        settings.pop(key, None)
    # The class by its name: where it lies does not count, another one does.
    module = settings["module"]
    module["_target_"] = str(module["_target_"]).rsplit(".", 1)[-1]
    meant: Settings = without_import_paths(settings)
    return meant


def training_settings(config: DictConfig) -> Settings:
    """Settings that trained weights depend on, without data content and initial weights.

    `fit_settings` adds those.
    """
    dataset = plain(config.dataset)
    rules = {k: v for k, v in dataset["rules"].items() if k not in _PREDICTION_RULES}
    clips = config.stage.clips
    if clips == "image":
        # Only the length of validation clips; training clips have a schedule of their own.
        del rules["n_future"]
    return {
        "stage": config.stage.name,
        "seed": config.seed,
        "dataset": {
            "name": dataset["name"],
            "version": dataset["version"],
            "size": dataset["size"],
            "rules": without_import_paths(rules),
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
        training: from `training_settings`.
        data: identity of the training data (`ClipDataModule.training_data`).
        start: SHA-256 of the initial weights; None for training from scratch.
        prediction_options: model settings that affect only predictions.
    """
    module = {k: v for k, v in training["model"]["module"].items() if k not in prediction_options}
    model = {**training["model"], "module": module}
    return {**training, "model": model, "data": data, "start": start}


def _trainer_settings(config: DictConfig) -> Settings:
    trainer = {k: v for k, v in plain(config.trainer).items() if k not in _HARMLESS_TRAINER_KEYS}
    callbacks = _deciding_callbacks(config)
    # Whether there are validation metrics to publish; all of validation if a callback acts on it.
    trainer["validates"] = config.trainer.limit_val_batches != 0
    if callbacks:
        trainer["validation"] = {key: config.trainer.get(key) for key in _VALIDATION_KEYS}
        trainer["validation"]["batch_size"] = config.model[config.stage.model].eval_batch_size
        trainer["validation"]["n_future"] = config.dataset.rules.n_future
        samples = plain(config.callbacks.get("samples")) or {}
        trainer["validation"]["samples"] = {k: samples.get(k) for k in ("clips", "samples")}
    return {**without_import_paths(trainer), "callbacks": without_import_paths(callbacks)}


def _deciding_callbacks(config: DictConfig) -> Settings:
    """Callbacks that can end or change training, or choose the published weights."""
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
    """Settings that predictions depend on, without inputs, data and prediction options."""
    dataset = plain(config.dataset)
    return {
        "stage": f"{config.stage.name}-predictions",
        "seed": config.seed,
        "precision": config.trainer.precision,
        "dataset": {
            "name": dataset["name"],
            "version": dataset["version"],
            "size": dataset["size"],
            "rules": without_import_paths(dataset["rules"]),
            "rollout": dataset["rollout"],
            "max_eval_clips": dataset["max_eval_clips"],
        },
    }


def run_digest(config: DictConfig) -> str:
    """Run id: twelve hex digits in the name of the output directory.

    Computed before any data is read: the location of raw data stands for its content.
    """
    places = _reader_settings(config)
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
    return settings_digest(without_import_paths(settings))[:12]


def job_digest(config: DictConfig) -> str:
    """Digest of all settings that the result of a sweep's job depends on, for any stage."""
    keys = ("fit", "predict", "checkpoint", "predictions", "videos", "evaluate")
    settings = {key: plain(config[key]) for key in keys}
    settings |= {"run": run_digest(config), "dataset": _dataset(config)}
    return settings_digest(without_import_paths(settings))


def _dataset(config: DictConfig) -> Settings:
    """Settings of the dataset, without its reader and loader workers."""
    dataset: Settings = plain(config.dataset)
    for key in ("datamodule", "num_workers", "extract_labels"):
        dataset.pop(key, None)
    return dataset


def without_younger_keys(reader: Settings) -> Settings:
    """Settings of a reader without unset keys that are younger than results that exist."""
    return {k: v for k, v in reader.items() if not (k == "exclude" and v is None)}


def _reader_settings(config: DictConfig) -> Settings:
    """Settings of the reader, with absolute paths."""
    reader = plain(config.dataset.datamodule)
    for key, value in reader.items():
        if key.endswith("root") and value is not None:
            reader[key] = str(Path(value).expanduser().resolve())
    reader = without_younger_keys(reader)
    if isinstance(reader.get("extract_labels"), dict):  # without batch size and folder
        wanted = ("model", "revision")
        reader["extract_labels"] = {key: reader["extract_labels"].get(key) for key in wanted}
    meant: Settings = without_import_paths(reader)
    return meant
