"""Weights: checkpoint files that rebuild their model by themselves.

A checkpoint of ours holds, beside what Lightning puts there:

    model            {"name": "svg_lp", "version": 1, "settings": {...}}: the settings of its module
    settings_digest  of everything its weights depend on

The name and the version say what the settings mean. Import paths (`_target_`) among them are those
of the run that saved it; where the config names the same model, its paths are used, so that code
may move.
"""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import get_class
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from hvp.artifacts.store import ArtifactStore, ArtifactType
from hvp.config.build import model_class
from hvp.config.settings import ModelSettings, Recipe
from hvp.errors import ArtifactError, ConfigError
from hvp.files import file_digest
from hvp.model import Model

CHECKPOINT_FILE = "last.ckpt"
"""The file of a checkpoint artifact."""
_MODEL = "model"
_DIGEST = "settings_digest"


class CheckpointRecord(Callback):
    """Callback that writes into checkpoints which model they hold and what they depend on.

    Args:
        model: the model that trains.
        settings_digest: of everything its weights depend on.
    """

    def __init__(self, model: ModelSettings, settings_digest: str) -> None:
        self.record = {
            _MODEL: {"name": model.name, "version": model.version, "settings": dict(model.module)},
            _DIGEST: settings_digest,
        }

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the record: plain values, so that the file loads without code."""
        checkpoint.update(self.record)


@dataclass(frozen=True)
class Weights:
    """A checkpoint file."""

    path: Path
    references: tuple[str, ...]
    """The artifact it belongs to; none for a file outside the store."""
    digest: str
    """SHA-256 of the file."""


def find_weights(reference: str, store: ArtifactStore) -> Weights:
    """The file behind `checkpoint=`: a .ckpt file or an artifact reference.

    Raises:
        ConfigError: a file is named that does not exist.
        ArtifactError: no such artifact.
    """
    if reference.endswith(".ckpt"):
        path = Path(reference)
        if not path.is_file():
            raise ConfigError(f"checkpoint={reference}: no such file; give a .ckpt file or name:v0")
        return Weights(path, (), file_digest(path))
    artifact = store.fetch(reference, ArtifactType.CHECKPOINT)
    entry = artifact.files.get(CHECKPOINT_FILE)
    if entry is None:
        raise ArtifactError(
            f"{artifact.reference}: holds no {CHECKPOINT_FILE}; give a checkpoint that a stage of "
            "this framework has published"
        )
    return Weights(artifact.path / CHECKPOINT_FILE, (artifact.reference,), entry.sha256)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, loaded without running code.

    Raises:
        ArtifactError: it cannot be read, or is no checkpoint of a LightningModule.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{path}: not a checkpoint that can be read ({reason}); give another one, or train "
            "again"
        ) from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise ArtifactError(
            f"{path}: holds no state_dict; expected a checkpoint of a LightningModule (weights "
            "released by others are imported first, see the README)"
        )
    return content


def check_same_training(path: Path, settings_digest: str) -> None:
    """Raise `ConfigError` where a checkpoint to go on from belongs to another training."""
    found = read_checkpoint(path).get(_DIGEST)
    if found != settings_digest:
        raise ConfigError(
            f"{path}: belongs to a training with other settings or data than this one (or that "
            "started from another checkpoint); give another output_dir, or force=true to begin anew"
        )


def model_recipe(
    checkpoint: Mapping[str, Any], where: Path, model: ModelSettings, command_line: Sequence[str]
) -> Recipe:
    """The settings of the module that a checkpoint holds.

    Where it names the same model as the config, what it lacks (as imported weights do) comes from
    the config, and so do import paths.

    Args:
        checkpoint: the content of the file.
        where: its path, for messages.
        model: what the config says.
        command_line: the overrides that were given.

    Raises:
        ArtifactError: the checkpoint's settings mean something else in this version.
        ConfigError: settings of the model were changed on the command line.
    """
    record = checkpoint.get(_MODEL)
    if record is None:  # of another framework's making: what the config says must fit
        return model.module
    _check_record(record, where)
    given = _model_overrides(model, command_line)
    if record["name"] != model.name:
        if given:
            raise ConfigError(
                f"{given[0]}: the checkpoint {where} holds the model {record['name']!r}, not "
                f"{model.name!r}; leave out the settings of the model, it brings its own"
            )
        settings: Recipe = record["settings"]
        if "_target_" not in settings:  # imported weights
            raise ConfigError(
                f"{where}: holds the model {record['name']!r}, not {model.name!r}; choose that "
                f"model, model/{model.key}=..., so that the config says what the weights do not"
            )
        return settings
    if record["version"] != model.version:
        raise ArtifactError(
            f"{where}: holds {model.name} of version {record['version']}, this is version "
            f"{model.version}, whose settings mean something else; train again"
        )
    options = set(model_class(model).prediction_options)
    chosen = {
        name: model.module[name]
        for name in options & set(model.module)
        if any(override.split("=", 1)[0].endswith(f".module.{name}") for override in given)
    }
    recipe = {**_overlay(model.module, record["settings"]), **chosen}
    if given:
        wanted, has = dict(_flat(model.module)), dict(_flat(recipe))
        for key in wanted.keys() | has.keys():
            if wanted.get(key) != has.get(key) and key.split(".")[0] not in options:
                raise ConfigError(
                    f"model.{model.key}.module.{key}={wanted.get(key)}: the checkpoint {where} was "
                    f"trained with {has.get(key)}, and brings its settings with it; leave out "
                    f"{given[0]!r}, or train with it"
                )
    return recipe


def _check_record(record: Any, where: Path) -> None:
    """Refuse a record that is none, or that would have anything called but the parts of a model.

    A checkpoint is data, maybe of strangers: nothing that it names is called before this.

    Raises:
        ArtifactError: names what was found.
    """
    kinds = {"name": str, "version": int, "settings": Mapping}
    if not isinstance(record, Mapping) or not all(
        isinstance(record.get(key), kind) for key, kind in kinds.items()
    ):
        raise ArtifactError(
            f"{where}: its record `{_MODEL}` is not one of a model (name, version, settings); it "
            "was not written by this framework"
        )
    if "${" in repr(record["settings"]):
        raise ArtifactError(
            f"{where}: its settings hold an interpolation (${{...}}); checkpoints of this "
            "framework hold plain values"
        )
    for target in _targets(record["settings"]):
        if not _is_part_of_a_model(target):
            raise ArtifactError(
                f"{where}: its settings name {target!r}, which is no model, network, schedule or "
                "optimizer that can be imported here; nothing of it was called. If the model is "
                "your own, make its module importable"
            )


def _targets(settings: Any) -> Iterator[Any]:
    """Every import path in nested settings."""
    if isinstance(settings, Mapping):
        if "_target_" in settings:
            yield settings["_target_"]
        for value in settings.values():
            yield from _targets(value)
    elif isinstance(settings, (list, tuple)):
        for value in settings:
            yield from _targets(value)


def _is_part_of_a_model(target: Any) -> bool:
    if not isinstance(target, str) or "${" in target:
        return False
    try:
        found = get_class(target)
    except Exception:  # whatever goes wrong in the import of a module that a file names
        return False
    ours = found.__module__.startswith(("hvp.structure.", "hvp.image.", "hvp.flow."))
    return ours or issubclass(found, (nn.Module, Optimizer, LRScheduler))


def _model_overrides(model: ModelSettings, command_line: Sequence[str]) -> list[str]:
    """The overrides that set what this model is (not how it is batched or for how long)."""
    shared = {"model", f"model/{model.key}"}
    own = f"model.{model.key}."
    found = []
    for override in command_line:
        key = override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]
        shorthand = key.startswith("model.") and key.count(".") == 1  # model.beta
        if key in shared or key.startswith(f"{own}module") or shorthand:
            found.append(override)
    return found


def _overlay(below: Any, above: Any) -> Any:
    """`above` over `below`, but import paths of `below` where both have one."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    merged = {**below, **{key: _overlay(below.get(key), value) for key, value in above.items()}}
    if "_target_" in below and "_target_" in above and _same_class(below, above):
        merged["_target_"] = below["_target_"]
    return merged


def _same_class(one: Recipe, other: Recipe) -> bool:
    return str(one["_target_"]).rsplit(".", 1)[-1] == str(other["_target_"]).rsplit(".", 1)[-1]


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings by their dotted keys, without import paths."""
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, item in value.items():
        if key != "_target_":
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))


def load_state(model: Model, state: Mapping[str, Any], where: Path) -> None:
    """Fill a model with weights; parts that only training needs may be missing.

    Raises:
        ArtifactError: they are not the weights of this model.
    """
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise _other_model(where, reason) from error
    missing = [name for name in missing if not name.startswith(model.training_parts)]
    if missing or unexpected:
        kind, names = ("no", missing) if missing else ("unknown", unexpected)
        raise _other_model(where, f"{kind} {', '.join(sorted(names)[:3])} ({len(names)} in all)")


def _other_model(where: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{where}: not the weights of this model ({reason[:200]}); predict with the model= and "
        "dataset= settings they were trained with"
    )
