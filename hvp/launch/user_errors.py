"""Errors that a user can act on, found in whatever was raised."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from hydra.errors import InstantiationException

from hvp.errors import HVPError
from hvp.os_errors import fault_sentence


def as_sentence(error: BaseException, places: Iterable[Path] = ()) -> HVPError | None:
    """The error that a user can act on, where `error` is one or stems from one; else None.

    Args:
        error: what was raised.
        places: directories that the command writes to.
    """
    if isinstance(error, HVPError):
        return error
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, HVPError):
        return error.__cause__  # Hydra wraps what a _target_ raises
    places = list(places)
    for link in _chain(error):
        sentence = fault_sentence(link, places)
        if sentence is not None:
            return HVPError(sentence)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, without end even where that goes in a circle."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
