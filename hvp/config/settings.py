"""Settings: frozen dataclasses that a stage makes once from the composed config.

Only stages and this package see a DictConfig. Objects that Hydra instantiates (data modules,
models, trainers, ...) are kept as recipes: plain values with a `_target_`, instantiated by
`hvp.config.build`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hvp.config import digests
from hvp.config.digests import plain
from hvp.config.resolvers import command_line
from hvp.labels import Size

Recipe = Mapping[str, Any]
"""Argument of `hydra.utils.instantiate`: a mapping with `_target_` and arguments."""


@dataclass(frozen=True)
class RunSettings:
    """Settings common to all stages."""

    stage: str
    """Name of the stage (`stage=`), prefix of artifact names."""
    dataset: str
    """Name of the dataset, suffix of artifact names."""
    seed: int
    force: bool
    """Recompute results that exist for the same settings."""
    output_dir: Path
    work_dir: Path
    """Folder of everything that runs write; paths in what is published are relative to it."""
    aliases: tuple[str, ...]
    """Additional aliases of published artifacts."""
    store: Recipe
    """Recipe of the artifact store."""
    loggers: Mapping[str, Recipe]
    video_fps: float
    """Frames per second of previews and report videos."""


@dataclass(frozen=True)
class DatasetSettings:
    """Settings of the dataset."""

    name: str
    datamodule: Recipe
    rules: Recipe
    data_dir: Path
    size: Size
    num_workers: int
    n_samples: int
    """Sampled futures per test clip."""
    max_eval_clips: int | None
    flip: Mapping[str, bool]
    """Whether training clips are randomly mirrored, by kind of clips (`structure`, `image`)."""
    crop: Mapping[str, Any]
    """Augmentation of clips of kind `image`: stored size, resize, random crop, part dropout."""
    seed: int


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a model."""

    key: str
    """Config key: `model.<key>`."""
    name: str
    version: int
    """Name of the model and version of its settings; both are stored in checkpoints."""
    module: Recipe
    """Recipe of the LightningModule, an `hvp.model.Model`."""
    batch_size: int
    eval_batch_size: int
    ema_decay: float


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """Settings of a stage that trains a model."""

    fit: bool
    predict: bool
    checkpoint: str | None
    """Weights to predict with, or initial weights of the training."""
    predictions: str
    """Reference of the label predictions to translate (stage `image`)."""
    data: DatasetSettings
    clips: str
    """Kind of training clips: `structure` or `image`."""
    model: ModelSettings
    trainer: Recipe
    callbacks: Mapping[str, Recipe]
    training: Mapping[str, Any]
    """Settings that the weights depend on (`digests.training_settings`)."""
    prediction: Mapping[str, Any]
    """Settings that the predictions depend on (`digests.predict_settings`)."""
    command_line: tuple[str, ...]
    """Command-line overrides, `key=value`."""


def dataset_settings(config: DictConfig) -> DatasetSettings:
    """Make the settings of the dataset."""
    dataset = plain(config.dataset)
    height, width = dataset["size"]
    return DatasetSettings(
        name=dataset["name"],
        datamodule=dataset["datamodule"],
        rules=dataset["rules"],
        data_dir=Path(config.data_dir),
        size=(height, width),
        num_workers=dataset["num_workers"],
        n_samples=dataset["rollout"]["samples"],
        max_eval_clips=dataset["max_eval_clips"],
        flip=dataset["flip"],
        crop=dataset["image"],
        seed=config.seed,
    )


def run_settings(config: DictConfig) -> RunSettings:
    """Make the settings common to all stages."""
    return RunSettings(**run_values(config))


def training_settings(config: DictConfig) -> TrainingSettings:
    """Make the settings of a stage that trains a model."""
    return TrainingSettings(
        **run_values(config),
        fit=config.fit,
        predict=config.predict,
        checkpoint=config.checkpoint,
        predictions=config.predictions,
        data=dataset_settings(config),
        clips=config.stage.clips,
        model=model_settings(config, config.stage.model),
        trainer=plain(config.trainer),
        callbacks=_recipes(config.callbacks),
        training=digests.training_settings(config),
        prediction=digests.predict_settings(config),
        command_line=tuple(config.get("command_line") or command_line()),
    )


def model_settings(config: DictConfig, key: str) -> ModelSettings:
    """Make the settings of `model.<key>`."""
    model = config.model[key]
    return ModelSettings(
        key=key,
        name=model.name,
        version=model.version,
        module=plain(model.module),
        batch_size=model.batch_size,
        eval_batch_size=model.eval_batch_size,
        ema_decay=model.ema_decay,
    )


def run_values(config: DictConfig) -> dict[str, Any]:
    """Fields of `RunSettings`, for subclasses of it."""
    return {
        "stage": config.stage.name,
        "dataset": config.dataset.name,
        "seed": config.seed,
        "force": config.force,
        "output_dir": Path(config.output_dir),
        "work_dir": Path(config.work_dir),
        "aliases": tuple(map(str, config.aliases)),
        "store": plain(config.artifacts),
        "loggers": _recipes(config.logger),
        "video_fps": config.video_fps,
    }


def _recipes(nodes: DictConfig) -> dict[str, Recipe]:
    """Nodes of a config group as recipes, without those that are null."""
    return {str(name): plain(node) for name, node in nodes.items() if node is not None}
