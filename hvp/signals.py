"""Signals that end a run: Ctrl-C (SIGINT), SIGTERM, and SIGUSR1 of SLURM.

Outside of loops that save, the first signal ends the process at once: with a sentence, exit status
130 (Ctrl-C) or 143 (SIGTERM), and no traceback. Within them (`ends_after_a_batch`) it is noted, and
the loop ends after its batch. A second signal ends the process on the spot.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SAME_SECONDS = 0.5
"""A terminal signals all processes at once, and launchers pass signals on: signals that come closer
together are one."""
_AGAIN = "run the same command again to go on"

_received: int | None = None
_received_at = 0.0
_waiting = 0  # loops that end by themselves
_pid = os.getpid()  # a loader worker is forked with these handlers


class Stopped(SystemExit):
    """Exit of a process that was signalled; Lightning lets it pass, unlike KeyboardInterrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def handle_signals(slurm: bool = False) -> None:
    """Install the handlers of SIGINT and SIGTERM.

    Args:
        slurm: in a SLURM job, whose SIGUSR1 and SIGTERM announce its end: they are only noted.
    """
    global _pid
    if threading.current_thread() is not threading.main_thread():
        return
    _pid = os.getpid()
    signal.signal(signal.SIGINT, _handle)
    for number in (signal.SIGTERM, signal.SIGUSR1) if slurm else (signal.SIGTERM,):
        signal.signal(number, _note if slurm else _handle)


def received() -> int | None:
    """The signal that asks this process to end, if one has come."""
    return _received


def stop_if_signalled() -> None:
    """End the process if a signal has come while it could not.

    Raises:
        Stopped: one has.
    """
    if _received is not None:
        _write(f"stopped by {_name(_received)}: {_AGAIN}")
        raise Stopped(_received)


@contextmanager
def ends_after_a_batch() -> Iterator[None]:
    """Context in which a signal is only noted: what runs looks at `received` after each batch."""
    global _waiting
    _waiting += 1
    try:
        yield
    finally:
        _waiting -= 1


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    _received = _received or number


def _handle(number: int, frame: FrameType | None) -> None:
    global _received, _received_at
    if os.getpid() != _pid:  # a forked worker ends with its parent, or by SIGTERM
        if number != signal.SIGINT:
            os._exit(128 + number)
        return
    now = time.monotonic()
    if _received is None:
        _received, _received_at = number, now
        if not _waiting:
            stop_if_signalled()
        _write(f"{_name(number)}: ending once this batch is done; again ends at once")
    elif now - _received_at > _SAME_SECONDS:
        _write(f"stopped at once by {_name(number)}: {_AGAIN}")
        os._exit(128 + number)


def _name(number: int) -> str:
    return "Ctrl-C (SIGINT)" if number == signal.SIGINT else signal.Signals(number).name


def _write(sentence: str) -> None:
    """Write a line to stderr from a handler: unbuffered, also within another write."""
    os.write(2, f"\n{sentence}\n".encode())
