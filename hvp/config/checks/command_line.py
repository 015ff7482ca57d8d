"""Checks of the command line: what it adds (`+key=value`) is read, and groups have one choice."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from hvp.config.checks.targets import check_argument
from hvp.config.resolvers import command_line
from hvp.errors import ConfigError
from hvp.values import did_you_mean, shown

KEYS = frozenset({
    "stage", "dataset", "model", "trainer", "flow", "artifacts", "logger", "callbacks", "seed",
    "data_root", "work_dir", "data_dir", "output_dir", "fit", "predict", "checkpoint",
    "predictions", "videos", "aliases", "evaluate", "force", "wandb", "sweep", "video_fps",
})  # fmt: skip
"""The keys and groups of every run."""
_BETWEEN_PROCESSES = "command_line"  # what a job tells its ranks
# Groups of entries with names of the user's own.
_COMBINED = ("logger", "callbacks", "experiment")  # groups of which there may be several choices
_OPEN = ("callbacks", "logger", "evaluate.measures", "hydra")


def check_added(config: DictConfig) -> None:
    """Refuse keys that nothing reads.

    Raises:
        ConfigError: names one, and what may be meant.
    """
    unknown = sorted(set(map(str, config)) - KEYS - {_BETWEEN_PROCESSES})
    added = list(_added())
    known = list(keys(_without_added())) if added else []
    for key in added:
        if key not in known and not _is_read(config, key):
            raise _unknown(key, known)
    if unknown:
        raise _unknown(unknown[0], KEYS)


def check_choices() -> None:
    """Refuse several choices of a group of which the last one alone, or a mixture, would count.

    Raises:
        ConfigError: names the group.
    """
    for override in _overrides():
        group, value = override.key_or_group, override.value()
        if group.startswith("stage.") and group != "stage.metric":
            raise ConfigError(
                f"{group}={shown(value)}: is not set here: stage=... chooses; leave {group} out"
            )
        if isinstance(value, list) and _is_group(group) and group not in _COMBINED:
            first, every = value[0] if value else "...", ",".join(map(str, value))
            raise ConfigError(
                f"{group}={shown(value)}: expected one choice; give {group}={first}, or one job "
                f"for each with -m (python run.py -m {group}={every})"
            )


def keys(node: Any, key: str = "") -> Iterator[str]:
    """Every key of a config, dotted, groups included."""
    if key:
        yield key
    if not isinstance(node, DictConfig):
        return
    for name in node:
        if "." in str(name):  # not a key to be typed, but the name of one (model.*.search)
            continue
        value = node._get_node(name)
        yield from keys(value, f"{key}.{name!s}" if key else str(name))


def _unknown(key: str, known: Iterable[str]) -> ConfigError:
    meant = did_you_mean(key, known) or "python run.py --cfg job prints all keys"
    return ConfigError(f"unknown key {key}: nothing reads it; {meant}")


def _added() -> Iterator[str]:
    """The keys that the command line adds (`+key`, `++key`), but for choices of groups."""
    for override in _overrides():
        value = override.value()
        is_choice = _is_group(override.key_or_group) and not isinstance(value, Mapping)
        if (override.is_add() or override.is_force_add()) and not is_choice:
            yield from _leaves(override.key_or_group, value)


def _overrides() -> list[Override]:
    return OverridesParser.create().parse_overrides(list(command_line()))


def _is_group(key: str) -> bool:
    parent, _, name = key.rpartition("/")
    return name in GlobalHydra.instance().config_loader().list_groups(parent)


def _leaves(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping) or not value:
        yield key
        return
    for name, entry in value.items():
        yield from _leaves(f"{key}.{name}", entry)


def _without_added() -> DictConfig:
    """The configuration of the command line without what it adds."""
    return compose("config", [o for o in command_line() if not o.startswith("+")])


def _is_read(config: DictConfig, key: str) -> bool:
    """Whether an added key is an entry of an open group, or an argument of what Hydra builds."""
    if key in _OPEN or any(key.startswith(f"{group}.") for group in _OPEN):
        return True
    parts = key.split(".")
    for n in reversed(range(1, len(parts))):
        node = OmegaConf.select(config, ".".join(parts[:n]))
        if isinstance(node, DictConfig) and "_target_" in node:
            if parts[0] != "trainer":  # its own check says where such a key belongs
                check_argument(node._target_, parts[n], ".".join(parts[:n]))
            return True
    return False
