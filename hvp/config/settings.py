"""Settings: frozen dataclasses that a stage makes once from the composed config.

Below the stages nothing sees a DictConfig. What Hydra builds (data modules, models, trainers, ...)
is kept as a recipe: plain values with a `_target_`, which `hvp.config.build` turns into the object.
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
"""What `hydra.utils.instantiate` builds an object from: `_target_` and arguments."""


@dataclass(frozen=True)
class RunSettings:
    """Settings of every stage."""

    stage: str
    """What `stage=` calls it; the names of its artifacts begin with it."""
    dataset: str
    """Name of the dataset; the names of artifacts end with it."""
    seed: int
    force: bool
    """Redo what exists for the same settings."""
    output_dir: Path
    aliases: tuple[str, ...]
    """Names that what is published gets besides version and `latest`."""
    store: Recipe
    """The artifact store."""
    loggers: Mapping[str, Recipe]
    video_fps: float
    """Frames per second of videos that are written to be looked at."""


@dataclass(frozen=True)
class DatasetSettings:
    """The configured dataset, before anything says how it is batched."""

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
    """Whether training clips are mirrored, by the kind of clips (`structure`, `image`)."""
    crop: Mapping[str, Any]
    """How clips of kind `image` are stored, resized, cropped and thinned out."""
    seed: int


@dataclass(frozen=True)
class ModelSettings:
    """The model that a stage trains."""

    key: str
    """Where it stands in the config: `model.<key>`."""
    name: str
    version: int
    """Name of the model, and version of what its settings mean; both travel with checkpoints."""
    module: Recipe
    """The LightningModule, an `hvp.model.Model`."""
    batch_size: int
    eval_batch_size: int
    ema_decay: float


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """Settings of a stage that trains a model."""

    fit: bool
    predict: bool
    checkpoint: str | None
    """Weights to predict with, or to start training from."""
    predictions: str
    """Label predictions to translate, in stages that do."""
    data: DatasetSettings
    clips: str
    """Whose training clips it has: `structure` or `image`."""
    model: ModelSettings
    trainer: Recipe
    callbacks: Mapping[str, Recipe]
    training: Mapping[str, Any]
    """What the trained weights depend on (`digests.training_settings`)."""
    prediction: Mapping[str, Any]
    """What the predictions depend on (`digests.predict_settings`)."""
    command_line: tuple[str, ...]
    """The overrides that were given, `key=value`."""


def dataset_settings(config: DictConfig) -> DatasetSettings:
    """The settings of the configured dataset."""
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
    """Settings of every stage."""
    return RunSettings(**run_values(config))


def training_settings(config: DictConfig) -> TrainingSettings:
    """Settings of a stage that trains a model."""
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
    """The settings of `model.<key>`."""
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
    """The fields of `RunSettings`, for settings that add their own."""
    return {
        "stage": config.stage.name,
        "dataset": config.dataset.name,
        "seed": config.seed,
        "force": config.force,
        "output_dir": Path(config.output_dir),
        "aliases": tuple(map(str, config.aliases)),
        "store": plain(config.artifacts),
        "loggers": _recipes(config.logger),
        "video_fps": config.video_fps,
    }


def _recipes(nodes: DictConfig) -> dict[str, Recipe]:
    """The nodes of a group, without those that are switched off (null)."""
    return {str(name): plain(node) for name, node in nodes.items() if node is not None}
