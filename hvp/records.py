"""Records: dataclasses and named tuples from JSON that others may have written.

    recording = parse(Recording, {"name": "a", "split": "train", "n_frames": 3})

A value must be of the type that its field says: no text for numbers, no `true` for 1, no numbers
that are not finite, no keys that there are not.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

MAX_INT = 2**53
"""Largest whole number in a record: what any JSON reader keeps exactly."""


def parse(kind: type[T], value: Any, where: str = "") -> T:
    """Value of type `kind` from its JSON form.

    Args:
        kind: a dataclass, NamedTuple, Enum, scalar, Path, tuple, list, dict or Mapping type; lists
            become tuples where the type is a tuple.
        value: plain JSON.
        where: what the value is, for messages.

    Raises:
        ValueError: says where, what was found and what was expected.
    """
    return cast(T, _parse(kind, value, where))


def _parse(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _parse_union(arguments, value, where)
    if origin is Literal:
        if any(type(value) is type(choice) and value == choice for choice in arguments):
            return value
        raise _unexpected(where, value, f"one of {', '.join(map(repr, arguments))}")
    if origin in (tuple, list):
        return _parse_sequence(origin, arguments, value, where)
    if origin in (dict, Mapping):
        _check_type(dict, value, where)
        return {
            _parse(arguments[0], key, where): _parse(arguments[1], item, _below(where, key))
            for key, item in value.items()
        }
    if isinstance(kind, type) and issubclass(kind, Enum):
        known = [member.value for member in kind]
        if isinstance(value, str) and value in known:
            return kind(value)
        raise _unexpected(where, value, f"one of {', '.join(map(repr, known))}")
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        return _parse_record(kind, value, where)
    _check_type(str if kind is Path else kind, value, where)
    return Path(value) if kind is Path else value


def _parse_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    (kind,) = (kind for kind in kinds if kind is not type(None))
    return _parse(kind, value, where)


def _parse_sequence(origin: Any, kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    _check_type(list, value, where)
    if origin is list or kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _unexpected(where, value, f"a list of {len(kinds)}")
    items = (_parse(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    return origin(items)


def _parse_record(kind: Any, value: Any, where: str) -> Any:
    _check_type(dict, value, where)
    hints, optional = _fields(kind)
    unknown = [key for key in value if key not in hints]
    missing = [name for name in hints if name not in value and name not in optional]
    if unknown or missing:
        wrong = f"the unknown key {unknown[0]!r:.80}" if unknown else f"no {missing[0]!r}"
        raise ValueError(f"{f'{where}: ' if where else ''}{wrong}, expected {', '.join(hints)}")
    return kind(
        **{key: _parse(hints[key], item, _below(where, key)) for key, item in value.items()}
    )


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """Types of a record's fields, and the names of those that may be missing."""
    hints = get_type_hints(kind)
    if not is_dataclass(kind):
        return {name: hints[name] for name in kind._fields}, set(kind._field_defaults)
    own = [field for field in fields(kind) if field.init]
    optional = {
        field.name
        for field in own
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    return {field.name: hints[field.name] for field in own}, optional


_NAMES = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "an object",
    list: "a list", type(None): "null",
}  # fmt: skip


def _check_type(kind: Any, value: Any, where: str) -> None:
    found = type(value)
    valid = found is kind or (kind is float and found is int)
    if valid and found is int:
        valid = abs(value) <= MAX_INT
    elif valid and found is float:
        valid = math.isfinite(value)
    if not valid:
        raise _unexpected(where, value, _NAMES.get(kind, kind.__name__))


def _below(where: str, key: str) -> str:
    return f"{where}.{key:.80}" if where else f"{key:.80}"


def _unexpected(where: str, value: Any, expected: str) -> ValueError:
    if isinstance(value, (dict, list)):
        shown = f"{_NAMES[type(value)]} of {len(value)}"
    elif isinstance(value, int) and abs(value) > MAX_INT:
        shown = "a number beyond 2**53"
    else:
        shown = f"{value!r:.80}"
    return ValueError(f"{f'{where}: ' if where else ''}{shown}, expected {expected}")
