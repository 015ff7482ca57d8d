"""Calls of the W&B SDK: their many errors become one of ours, and none waits for a slow server."""

import threading
import time
from collections.abc import Callable
from queue import Empty, Queue
from typing import TYPE_CHECKING, TypeVar

from hvp.artifacts.wandb.record import answers
from hvp.errors import HVPError, ServerError

if TYPE_CHECKING:
    import wandb

_PULSE_SECONDS = 3.0  # between two looks at whether the server is alive
# Slower than this, the server is taken for broken.
_BYTES_PER_SECOND = 250e3
_FILES_PER_SECOND = 1.0
_T = TypeVar("_T")


def transfer_seconds(moved: "wandb.Artifact") -> float:
    """How long moving the files of an artifact may take: many files, or large ones, take long."""
    manifest = moved.manifest
    return manifest.size() / _BYTES_PER_SECOND + len(manifest.entries) / _FILES_PER_SECOND


def asked(
    base_url: str,
    what: str,
    ask: Callable[[], _T],
    patience: float,
    seconds: float = 0.0,
    passed: tuple[type[Exception], ...] = (),
) -> _T:
    """What `ask`, a call of the SDK, answers.

    Args:
        base_url: the server.
        what: what is asked for, for the message.
        ask: the call; it goes on in the background where it is not waited for any more.
        patience: seconds for which the server may be silent, and that a call may take.
        seconds: what the call may take beyond them.
        passed: exceptions that are an answer, unless they are W&B's own kind.

    Raises:
        ServerError: the call failed or took too long.
    """
    outcome: Queue[_T | Exception] = Queue()

    def run() -> None:
        try:
            outcome.put(ask())
        except Exception as error:  # told to the thread that asked
            outcome.put(error)

    # The SDK's time-outs, where it has any, give the call up for good and are of no use to wait
    # in turns; a thread can be waited for.
    threading.Thread(target=run, daemon=True).start()
    began = heard = time.monotonic()
    while True:
        left = began + patience + seconds - time.monotonic()
        try:
            answer = outcome.get(timeout=max(0.0, min(left, _PULSE_SECONDS)))
        except Empty:
            pass
        else:
            if isinstance(answer, Exception):
                raise _told(base_url, what, answer, passed) from answer
            return answer
        if answers(base_url, patience):
            heard = time.monotonic()
        silent = time.monotonic() - heard
        if silent > patience or left < 0:
            raise ServerError(
                f"{what}: W&B at {base_url} has taken {time.monotonic() - began:.0f} s, "
                f"{silent:.0f} s without a sign of life (wandb.patience); run the same command "
                "again when it is well"
            )


def _told(
    base_url: str, what: str, error: Exception, passed: tuple[type[Exception], ...]
) -> Exception:
    """The error to raise: those that are an answer as they are, all others as ours."""
    import wandb

    if isinstance(error, HVPError) or (
        isinstance(error, passed) and not isinstance(error, wandb.Error)
    ):
        return error
    # Of many kinds, from three layers; all mean the same here.
    return ServerError(
        f"{what}: W&B at {base_url} failed ({' '.join(repr(error).split())[:200]}); "
        "run the same command again when it is well, it goes on from there"
    )
