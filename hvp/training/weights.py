"""Self-describing checkpoints: weights together with the settings that rebuild their model.

A checkpoint of this framework holds, in addition to Lightning's entries:

    model            {"name": "svg_lp", "version": 1, "settings": {...}}: settings of the module
    settings_digest  digest of everything the weights depend on

Name and version identify the meaning of the settings. Import paths (`_target_`) in them are those
of the run that saved the checkpoint; if the config has the same model, its paths are used instead,
so that code may move.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
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
from hvp.labels import LabelSpace
from hvp.model import Model
from hvp.published import is_state
from hvp.torch_files import UnreadableFile, load_torch_file

CHECKPOINT_FILE = "last.ckpt"
"""File name in a checkpoint artifact."""
_MODEL = "model"
_DIGEST = "settings_digest"
_MOST_SETTINGS = 10_000


class CheckpointRecord(Callback):
    """Callback that adds the model's settings and the settings digest to checkpoints.

    Args:
        model: settings of the trained model.
        settings_digest: digest of everything its weights depend on.
        space: classes of the clips it is trained on.
    """

    def __init__(self, model: ModelSettings, settings_digest: str, space: LabelSpace) -> None:
        self.record = {
            _MODEL: {
                "name": model.name,
                "version": model.version,
                "settings": dict(model.module),
                "classes": list(space.classes),
            },
            _DIGEST: settings_digest,
        }

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the record, plain values only, so that the file loads without unpickling code."""
        checkpoint.update(self.record)


@dataclass(frozen=True)
class Weights:
    """Checkpoint file with its artifact and digest."""

    path: Path
    references: tuple[str, ...]
    """Reference of its artifact; empty for a file outside the store."""
    digest: str
    """SHA-256 of the file."""


def find_weights(reference: str, store: ArtifactStore) -> Weights:
    """Resolve `checkpoint=` to a file: a .ckpt file or an artifact reference.

    Raises:
        ConfigError: the .ckpt file does not exist.
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
    """Load a checkpoint file safely (`weights_only`), tensors on the CPU.

    Raises:
        ArtifactError: the file cannot be read, or is no checkpoint of a LightningModule.
    """
    try:
        content = load_torch_file(path)
    except (UnreadableFile, FileNotFoundError) as error:
        raise ArtifactError(
            f"{path}: not a checkpoint that can be read ({str(error)[:200]}); give another one, or "
            "train again"
        ) from error
    if not isinstance(content, dict) or not is_state(content.get("state_dict")):
        raise ArtifactError(
            f"{path}: holds no state_dict; expected a checkpoint of a LightningModule (weights "
            "released by others are imported first, see the README)"
        )
    return content


def check_same_training(path: Path, settings_digest: str) -> None:
    """Raise `ConfigError` if a checkpoint to resume from belongs to another training."""
    found = read_checkpoint(path).get(_DIGEST)
    if found != settings_digest:
        raise ConfigError(
            f"{path}: belongs to a training with other settings or data than this one (or that "
            "started from another checkpoint); give another output_dir, or force=true to begin anew"
        )


def model_recipe(
    checkpoint: Mapping[str, Any], where: Path, model: ModelSettings, command_line: Sequence[str]
) -> Recipe:
    """Settings of the module from a checkpoint.

    If it holds the same model as the config, settings it lacks (imported weights) and import paths
    come from the config.

    Args:
        checkpoint: content of the file.
        where: its path, for messages.
        model: settings of the model in the config.
        command_line: command-line overrides.

    Raises:
        ArtifactError: the checkpoint's settings mean something else in this version.
        ConfigError: settings of the model were changed on the command line.
    """
    record = checkpoint.get(_MODEL)
    if record is None:  # not saved by this framework: the config must fit
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
    of_file = _merge(model.module, record["settings"])
    wanted, has = dict(_flatten(model.module)), dict(_flatten(of_file))
    chosen = {}
    for override in given:
        for key in sorted(k for k in wanted.keys() | has.keys() if _sets(override, k, model.key)):
            if key in options:
                chosen[key] = wanted[key]
            elif wanted.get(key) != has.get(key):
                raise ConfigError(
                    f"model.{model.key}.module.{key}={wanted.get(key)}: the checkpoint {where} was "
                    f"trained with {has.get(key)}, and brings its settings with it; leave out "
                    f"{override!r}, or train with it"
                )
    return {**of_file, **chosen}


def _sets(override: str, key: str, model: str) -> bool:
    """Whether a model override sets a key of the module: itself, a group, or a whole choice."""
    name = _override_key(override)
    if name in ("model", f"model/{model}"):
        return True
    module = f"model.{model}.module"
    if name == module or name.startswith(f"{module}."):
        inner = name[len(module) + 1 :]
        return not inner or key == inner or key.startswith(f"{inner}.")
    return key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]  # model.beta


def check_classes(checkpoint: Mapping[str, Any], where: Path, space: LabelSpace) -> None:
    """Check that a model was trained on clips with these classes.

    Raises:
        ConfigError: it was trained on others.
    """
    record = checkpoint.get(_MODEL)
    names = record.get("classes") if isinstance(record, Mapping) else None
    if names is not None and tuple(names) != space.classes:
        raise ConfigError(
            f"{where}: was trained on {len(names)} classes ({', '.join(map(str, names[:3]))}, "
            f"...), dataset.classes are the {space.n_classes} of {space.name}; give the dataset it "
            "was trained for, or train for this one"
        )


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
    _check_size(record["settings"], where)
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


def _check_size(settings: Any, where: Path) -> None:
    """Refuse settings that unfold without end: shared or endless containers in a small file."""
    values, seen = [settings], 0
    while values:
        value = values.pop()
        seen += 1
        if seen > _MOST_SETTINGS:
            raise ArtifactError(
                f"{where}: its settings unfold to more than {_MOST_SETTINGS} values; it was not "
                "written by this framework"
            )
        if isinstance(value, Mapping):
            values.extend(value.values())
        elif isinstance(value, (list, tuple)):
            values.extend(value)


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
    """Overrides of module settings (not of batch sizes or durations), single keys first."""
    module = f"model.{model.key}.module"
    found = []
    for override in command_line:
        name = _override_key(override)
        shorthand = name.startswith("model.") and name.count(".") == 1  # model.beta
        if name in ("model", f"model/{model.key}") or shorthand or name.startswith(module):
            found.append(override)
    return sorted(found, key=lambda override: "." not in _override_key(override))


def _override_key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]


def _merge(below: Any, above: Any) -> Any:
    """Merge nested settings: `above` wins, except import paths, which `below` keeps."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    merged = {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}
    if "_target_" in below and "_target_" in above and _same_class(below, above):
        merged["_target_"] = below["_target_"]
    return merged


def _same_class(one: Recipe, other: Recipe) -> bool:
    return str(one["_target_"]).rsplit(".", 1)[-1] == str(other["_target_"]).rsplit(".", 1)[-1]


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested settings to (dotted key, value), without import paths."""
    if not isinstance(value, Mapping):
        yield prefix, value
        return
    for key, item in value.items():
        if key != "_target_":
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))


def load_state(model: Model, state: Mapping[str, Any], where: Path) -> None:
    """Load a state dict into a model; `Model.training_parts` may be missing.

    Raises:
        ArtifactError: keys or shapes do not match, or a weight is not finite.
    """
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise _mismatch(where, reason) from error
    trained = {name for name, _ in model.named_parameters()}  # a mask may be infinite
    broken = [
        name
        for name, tensor in state.items()
        if bool(tensor.isnan().any()) or (name in trained and bool(tensor.isinf().any()))
    ]
    if broken:
        raise ArtifactError(
            f"{where}: {broken[0]} is not finite ({len(broken)} tensors in all): the weights of a "
            "training that diverged; give another checkpoint"
        )
    missing = [name for name in missing if not name.startswith(model.training_parts)]
    if missing or unexpected:
        kind, names = ("no", missing) if missing else ("unknown", unexpected)
        raise _mismatch(where, f"{kind} {', '.join(sorted(names)[:3])} ({len(names)} in all)")


def _mismatch(where: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{where}: not the weights of this model ({reason[:200]}); give the model= and dataset= "
        "settings they were trained with"
    )
