"""Validation of settings: what a value may be, and the sentence that says when it is not.

    RULES = {
        "lr": Rule(number(above=0), "learning rate"),
        "network.base_width": Rule(whole(1)),
    }
    check_rules(settings, RULES, "model.structure.module")

A rule's key is the path below the checked settings.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hvp.errors import ConfigError

_SHOWN = 80  # characters of a value in a message
_CLOSE = 0.8  # of two keys that are nearly the same, as difflib has it
_ABSENT = object()


@dataclass(frozen=True)
class Kind:
    """What a value may be."""

    expected: str
    """In words: `a whole number >= 1`."""
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    """The words it may be, where there are such."""
    advice: str = ""
    """What to do, in place of the usual advice; `{key}` stands for the key."""


@dataclass(frozen=True)
class Rule:
    """What the value of a key may be."""

    kind: Kind
    meaning: str = ""
    """What the value says, in a few words."""


def _as_yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_as_yaml(v)}' for k, v in value.items())}}}"
    return str(value) if value != "" else "''"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _bounds(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    return f" >= {low}" if low is not None else f" <= {high}" if high is not None else ""


def whole(low: int | None = None, high: int | None = None) -> Kind:
    """A whole number within bounds, both included."""

    def accepts(value: Any) -> bool:
        return _is_whole(value) and _within(value, low, high)

    return Kind(f"a whole number{_bounds(low, high)}", accepts)


def number(
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Kind:
    """A finite number within bounds: `low` and `high` included, `above` and `below` not."""

    def accepts(value: Any) -> bool:
        if not (_is_whole(value) or (isinstance(value, float) and math.isfinite(value))):
            return False
        return (
            _within(value, low, high)
            and (above is None or value > above)
            and (below is None or value < below)
        )

    limits = [
        f"{sign} {limit:g}"
        for sign, limit in ((">=", low), (">", above), ("<=", high), ("<", below))
        if limit is not None
    ]
    if low is not None and high is not None:
        limits = [f"from {low:g} to {high:g}"]
    return Kind(" ".join(["a number", " and ".join(limits)]).strip(), accepts)


def choice(*values: str | bool | int) -> Kind:
    """One of these values."""

    def accepts(value: Any) -> bool:
        return any(type(value) is type(known) and value == known for known in values)

    words = tuple(value for value in values if isinstance(value, str))
    listing = ", ".join(dict.fromkeys(map(shown, values)))
    return Kind(listing if len(values) == 1 else f"one of {listing}", accepts, words)


def either(*kinds: Kind) -> Kind:
    """One of several kinds."""
    return Kind(
        ", or ".join(kind.expected for kind in kinds),
        lambda value: any(kind.accepts(value) for kind in kinds),
        tuple(word for kind in kinds for word in kind.choices),
        next((kind.advice for kind in kinds if kind.advice), ""),
    )


def or_null(kind: Kind) -> Kind:
    """A kind, or null."""
    return either(kind, Kind("null", lambda value: value is None))


def listed(kind: Kind, length: int | None = None) -> Kind:
    """A list, each entry of that kind."""

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, (list, tuple))
            and length in (None, len(value))
            and all(map(kind.accepts, value))
        )

    many = "" if length is None else f" of {length}"
    return Kind(f"a list{many}, each {kind.expected}", accepts, (), kind.advice)


def matching(pattern: str, expected: str) -> Kind:
    """Text that matches a regular expression as a whole."""
    return Kind(
        expected, lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))
    )


FLAG = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("text", lambda value: isinstance(value, str) and value.strip() != "")
GROUP = Kind(
    "a group of keys",
    lambda value: isinstance(value, Mapping),
    advice="give its keys one by one, {key}.NAME=VALUE",
)
ANYTHING = Kind("anything", lambda value: True)
SIZE = Kind("[height, width] in pixels, whole numbers >= 1", listed(whole(1), 2).accepts)
NAMES = Kind(
    "a list of names, each text",
    listed(TEXT).accepts,
    advice="write them in brackets, and those of digits in quotes, for YAML and for the shell: "
    "'{key}=[\"2011_09_26\"]'",
)
WEIGHTS = Kind(
    "download, or a file that exists",
    lambda value: value == "download" or (isinstance(value, str) and Path(value).is_file()),
    ("download",),
)
"""Weights of a frozen network."""


def check_value(key: str, value: Any, rule: Rule) -> None:
    """Check one value.

    Raises:
        ConfigError: names the key, the value, what is expected and what to do.
    """
    kind = rule.kind
    if kind.accepts(value):
        return
    meaning = f" ({rule.meaning})" if rule.meaning else ""
    advice = kind.advice.format(key=key) or "give such a value, or leave it out for its default"
    close = get_close_matches(value, kind.choices, n=1) if isinstance(value, str) else []
    if close:
        advice = f"did you mean {close[0]}?"
    if isinstance(value, float) and value.is_integer() and kind.accepts(int(value)):
        advice = f"write it without point and exponent, {key}={int(value)}"
    raise ConfigError(f"{key}={shown(value)}: expected {kind.expected}{meaning}; {advice}")


def check_rules(settings: Mapping[str, Any], rules: Mapping[str, Rule], key: str) -> None:
    """Check settings by a table of rules; a key that is not there is not looked at.

    Args:
        settings: plain values, nested.
        rules: path below the settings to what the value may be. What lies on the way is a group
            of keys, unless it has a rule of its own.
        key: where the settings stand in the config; empty for the whole config.

    Raises:
        ConfigError: the first value that breaks its rule.
    """
    groups = dict.fromkeys(groups_of(rules), Rule(GROUP))
    for path, rule in {**groups, **rules}.items():
        value = value_at(settings, path, _ABSENT)
        if value is not _ABSENT:
            check_value(".".join(filter(None, (key, path))), value, rule)


def groups_of(rules: Mapping[str, Rule]) -> list[str]:
    """What lies on the way to the keys of a table and has no rule of its own, outermost first."""
    names = [path.split(".") for path in rules]
    on_the_way = {".".join(parts[:n]) for parts in names for n in range(1, len(parts))}
    return sorted(on_the_way - set(rules))


def value_at(settings: Any, path: str, default: Any = None) -> Any:
    """The value at a dotted path of nested settings."""
    for name in path.split("."):
        if not isinstance(settings, Mapping) or name not in settings:
            return default
        settings = settings[name]
    return settings


def shown(value: Any) -> str:
    """A value as one would write it in YAML, shortened."""
    text = _as_yaml(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """`did you mean ...?` with the known keys that a mistyped one may stand for; else empty.

    >>> did_you_mean("dataset.rulez.n_past", ["dataset.rules.n_past", "dataset.rules.n_future"])
    'did you mean dataset.rules.n_past?'
    """
    others = [other for other in known if not f"{key}.".startswith(f"{other}.")]
    name = key.rpartition(".")[2]
    of_that_name = [other for other in others if other.rpartition(".")[2] == name]
    close = (
        get_close_matches(key, of_that_name, n=1, cutoff=_CLOSE)
        or get_close_matches(key, others, n=1, cutoff=_CLOSE)
        or get_close_matches(key, of_that_name, n=3, cutoff=0.0)
        or get_close_matches(key, others, n=1)
    )
    return f"did you mean {' or '.join(close)}?" if close else ""
