"""Signals: SIGTERM and Ctrl-C (SIGINT) end a run in order, with the exit status 143 or 130.

The first signal raises `Stopped` where nothing is lost by that, and waits within `deferred()`, as a
training does, for the next place at which the work can be saved. A second Ctrl-C ends the process
at once. Until `listen` is called nothing of this applies.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}


@dataclass
class _State:
    process: int = 0
    """Process that listens; those forked from it (loader workers) do not."""
    only_noted: tuple[int, ...] = ()
    received: int | None = None
    caught: bool = False
    """Whether somebody above catches `Stopped`."""
    deferrals: int = 0
    handlers: dict[int, Any] = field(default_factory=dict)
    """Handlers before the first `listen`."""


_state = _State()


class Stopped(BaseException):
    """Stop by a signal. Not an error of the code: only what ends a process catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {name(number)}; everything completed is kept, and the same command goes on"
        )
        self.exit_status = 128 + number


def listen(only_noted: tuple[int, ...] | None = None) -> None:
    """Install the handlers; again where somebody else has replaced them.

    Args:
        only_noted: signals that never raise, for code that asks `received`; None: as before.
    """
    if only_noted is not None:
        _state.only_noted = tuple(only_noted)
    _state.process = os.getpid()
    for number in (signal.SIGTERM, signal.SIGINT, *_state.only_noted):
        before = signal.signal(number, _handle)
        _state.handlers.setdefault(number, before)


def received() -> int | None:
    """Number of the first signal, if there was one."""
    return _state.received


def is_only_noted() -> bool:
    """Whether the signal received is one of those that never raise."""
    return _state.received in _state.only_noted


def name(number: int) -> str:
    """Name of a signal for messages."""
    return _NAMES.get(signal.Signals(number), signal.Signals(number).name)


@contextmanager
def deferred() -> Iterator[None]:
    """Defer a stop: within, a signal is only noted; at the end it takes effect."""
    _state.deferrals += 1
    try:
        yield
    finally:
        _state.deferrals -= 1
    stop_if_signalled()


def stop_if_signalled() -> None:
    """Stop if a signal was received, except one that is only noted.

    Raises:
        Stopped: there was one.
    """
    if _state.received is not None and not is_only_noted() and not _state.deferrals:
        raise Stopped(_state.received)


@contextmanager
def catching() -> Iterator[None]:
    """Listen, and raise `Stopped` within; before it a signal ends the process with a sentence."""
    global _state
    listen()
    _state.caught = True
    try:
        yield
    finally:
        for number, handler in _state.handlers.items():
            signal.signal(number, handler)
        _state = _State()


@contextmanager
def orderly_exit() -> Iterator[None]:
    """Listen, and end the process by the exit status of a signal, with a sentence."""
    try:
        with catching():
            yield
    except Stopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
        raise SystemExit(stopped.exit_status) from None


def _handle(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _state.process:
        _in_worker(number)
        return
    again = _state.received == number == signal.SIGINT
    if again and "LOCAL_RANK" not in os.environ:  # ranks get it from terminal and launcher
        _say("ended at once; what was completed before is kept")
        os._exit(128 + number)
    if _state.received is not None:
        return
    _state.received = number
    if number in _state.only_noted:
        return
    if _state.deferrals:
        more = "; Ctrl-C again ends at once" if number == signal.SIGINT else ""
        _say(f"{name(number)}: saving and stopping after the current batch or validation{more}")
        return
    if not _state.caught:  # nothing has begun yet
        _say(str(Stopped(number)))
        os._exit(128 + number)
    raise Stopped(number)


def _in_worker(number: int) -> None:
    """Leave a worker alive on the terminal's Ctrl-C: the batch it loads is still needed."""
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _say(message: str) -> None:
    # No print: a handler may interrupt one.
    os.write(2, f"\n{message}\n".encode())
