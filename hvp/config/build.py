"""Instantiate objects from recipes (Hydra `_target_`): data module, model, artifact store."""

import inspect
from collections.abc import Sequence
from typing import Any

from hydra.utils import get_class, instantiate

from hvp.artifacts.store import ArtifactStore
from hvp.clips import Channel
from hvp.config.checks.models import find_model_class
from hvp.config.settings import DatasetSettings, ModelSettings, Recipe
from hvp.data.datamodule import ClipDataModule
from hvp.errors import ConfigError
from hvp.model import Model


def build(recipe: Recipe, **arguments: Any) -> Any:
    """Instantiate a recipe; `arguments` are added to its own."""
    return instantiate(dict(recipe), **arguments, _convert_="all")


def build_store(recipe: Recipe) -> ArtifactStore:
    """Instantiate the artifact store."""
    store: ArtifactStore = build(recipe)
    return store


def build_datamodule(
    dataset: DatasetSettings,
    channels: Sequence[Channel],
    clips: str = "structure",
    batch_size: int = 1,
    eval_batch_size: int = 1,
) -> ClipDataModule:
    """Instantiate the data module of a dataset.

    Args:
        dataset: settings of the dataset.
        channels: channels to read.
        clips: kind of training clips: `structure`, or `image` with random crops.
        batch_size: training clips per optimizer step, over all ranks.
        eval_batch_size: clips per validation or prediction batch of one rank.
    """
    crop = dataset.crop if clips == "image" else {}
    # Partial, then called: Hydra would turn the rules, a dataclass, into a config.
    make_datamodule = build(dataset.datamodule, _partial_=True)
    datamodule: ClipDataModule = make_datamodule(
        rules=build(dataset.rules),
        data_dir=dataset.data_dir,
        size=dataset.size,
        batch_size=batch_size,
        channels=tuple(channels),
        eval_batch_size=eval_batch_size,
        num_workers=dataset.num_workers,
        source_size=crop.get("source_size"),
        load_size=crop.get("load_size"),
        flip=dataset.flip[clips],
        part_dropout=crop.get("part_dropout") or 0.0,
        max_eval_clips=dataset.max_eval_clips,
        seed=dataset.seed,
    )
    return datamodule


def build_model(recipe: Recipe, seed: int) -> Model:
    """Instantiate a model; a `seed` argument gets the seed of the run."""
    known = inspect.signature(get_class(recipe["_target_"])).parameters
    model = build(recipe, **({"seed": seed} if "seed" in known and "seed" not in recipe else {}))
    if not isinstance(model, Model):
        raise ConfigError(
            f"{recipe['_target_']}: not a model; expected a subclass of "
            "hvp.structure.base.StructureGenerator or hvp.image.base.ImageGenerator"
        )
    return model


def model_class(model: ModelSettings) -> type[Model]:
    """Import the class of a model without instantiating it.

    Raises:
        ConfigError: it cannot be imported, or is no model.
    """
    return find_model_class(model.module, f"model.{model.key}.module")
