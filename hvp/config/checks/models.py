"""Checks of a model and of the Trainer that trains it."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from hvp.config.checks.targets import check_targets, locate
from hvp.config.checks.trainer import check_for_model, check_ranks, check_trainer
from hvp.errors import ConfigError
from hvp.model import ClipFacts, Model


def check_training(settings: Mapping[str, Any], clips: ClipFacts, name: str) -> None:
    """Check `model.<name>` and the Trainer, resolved for it.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    key = f"model.{name}"
    model, trainer = settings["model"][name], settings["trainer"]
    check_trainer(trainer, settings.get("callbacks") or {})
    if not settings["fit"] and settings["checkpoint"] is not None:
        return  # the checkpoint says what the model is
    cls = find_model_class(model["module"], f"{key}.module")
    cls.check_settings(model["module"], clips, f"{key}.module")
    check_targets(model["module"], f"{key}.module", given=("seed",))
    check_for_model(trainer, cls, key)
    if settings["fit"]:
        check_ranks(trainer, model["batch_size"], key)


def find_model_class(module: Mapping[str, Any], key: str) -> type[Model]:
    """The class of a model, nothing built.

    Raises:
        ConfigError: it cannot be imported, or is no model.
    """
    path = module.get("_target_")
    found = locate(path, key)
    if not (inspect.isclass(found) and issubclass(found, Model)):
        raise ConfigError(
            f"{key}._target_={path}: is no model; expected a subclass of "
            "hvp.structure.base.StructureGenerator or hvp.image.base.ImageGenerator"
        )
    return found


def check_accelerator(trainer: Mapping[str, Any]) -> None:
    """Check that a GPU that is asked for is there.

    Raises:
        ConfigError: this machine has none.
    """
    name = trainer.get("accelerator")
    has_cuda = torch.cuda.is_available()
    if (name == "cuda" and not has_cuda) or (name == "gpu" and not (has_cuda or _has_mps())):
        raise ConfigError(
            f"trainer.accelerator={name}: torch finds no GPU on this machine; use trainer=cpu, or "
            "trainer=auto, which takes the best there is"
        )


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
