"""Checks of everything that Hydra builds: the class exists, and takes the arguments it is given."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hvp.errors import ConfigError
from hvp.values import (
    ANYTHING,
    FLAG,
    NAMES,
    TEXT,
    Kind,
    Rule,
    check_value,
    choice,
    did_you_mean,
    either,
    listed,
    number,
    shown,
    whole,
)

_HYDRA = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")


def locate(path: Any, key: str) -> Any:
    """What `key._target_=path` names.

    Raises:
        ConfigError: it cannot be imported.
    """
    if not isinstance(path, str) or "." not in path:
        raise ConfigError(
            f"{key}._target_={shown(path)}: expected the import path of a class, "
            "package.module.Class"
        )
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # whatever the module does when it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
    raise ConfigError(
        f"{key}._target_={path}: cannot be imported ({reason}); expected the import path of a "
        "class, package.module.Class, that this Python finds"
    )


def check_targets(node: Any, key: str, given: Collection[str] | None = ()) -> None:
    """Check a node, and all below it, that Hydra builds from `_target_`.

    Args:
        node: plain values.
        key: where they stand in the config.
        given: arguments that the framework adds; None where it adds some that are not known here.

    Raises:
        ConfigError: the class cannot be imported, or an argument is unknown, missing or not of
            the type that the class says.
    """
    if isinstance(node, list):
        for position, entry in enumerate(node):
            check_targets(entry, f"{key}[{position}]", given)
        return
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        check_targets(value, f"{key}.{name}", given)
    if "_target_" not in node:
        return
    target = locate(node["_target_"], key)
    parameters = _parameters(target)
    if parameters is None:
        return
    arguments = {str(name): value for name, value in node.items() if name not in _HYDRA}
    for name in arguments:
        check_argument(node["_target_"], name, key, parameters)
    hints = _hints(target)
    for name, value in arguments.items():
        if not (isinstance(value, Mapping) and "_target_" in value):
            check_value(f"{key}.{name}", value, Rule(_kind(hints.get(name, Any))))
    if given is None or node.get("_partial_") or "_args_" in node:
        return
    for name, parameter in parameters.items():
        required = parameter.default is inspect.Parameter.empty and parameter.kind not in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        if required and name not in arguments and name not in given:
            raise ConfigError(f"{key}.{name} has no value; give it, {key}.{name}=...")


def check_argument(
    path: str, name: str, key: str, parameters: Mapping[str, inspect.Parameter] | None = None
) -> None:
    """Refuse an argument that the class at import path `path` does not have."""
    if parameters is None:
        parameters = _parameters(locate(path, key))
    if parameters is None or name in parameters or name in _HYDRA:
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    known = [other for other in parameters if other != "self"]
    meant = did_you_mean(name, known)
    others = f"it has {', '.join(known)}"
    raise ConfigError(
        f"{key}.{name}: {path.rpartition('.')[2]} has no such argument; {meant or others}"
    )


def _parameters(target: Any) -> Mapping[str, inspect.Parameter] | None:
    """The arguments of a class or function; None where Python cannot say."""
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return None


def _hints(target: Any) -> dict[str, Any]:
    """The declared types of the arguments, as far as they can be told."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # names that only type checkers import
        return {}


def _kind(hint: Any) -> Kind:
    """What values of a declared type are in a config."""
    plain = {bool: FLAG, int: whole(), float: number(), str: TEXT}
    if hint in plain:
        return plain[hint]
    if hint is NoneType:
        return Kind("null", lambda value: value is None)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return choice(*arguments)
    if origin in (Union, UnionType):
        kinds = [_kind(argument) for argument in arguments]
        return ANYTHING if ANYTHING in kinds else either(*kinds)
    if origin in (list, Sequence):
        if arguments == (str,):
            return NAMES
        return listed(_kind(arguments[0]))
    if origin is tuple and Ellipsis not in arguments and len(set(arguments)) == 1:
        return listed(_kind(arguments[0]), len(arguments))
    return ANYTHING
