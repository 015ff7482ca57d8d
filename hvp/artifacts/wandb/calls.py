"""W&B SDK calls with timeouts: none blocks on a slow server, every failure is a ServerError."""

import threading
import time
from collections.abc import Callable
from queue import Empty, Queue
from typing import TYPE_CHECKING, TypeVar

from hvp.artifacts.wandb.record import is_reachable
from hvp.errors import HVPError, ServerError

if TYPE_CHECKING:
    import wandb

_PULSE_SECONDS = 3.0  # between two health checks of the server
# A slower transfer times out.
_BYTES_PER_SECOND = 250e3
_FILES_PER_SECOND = 1.0
_T = TypeVar("_T")


def transfer_seconds(moved: "wandb.Artifact") -> float:
    """Timeout for the upload or download of an artifact, by number and size of its files."""
    manifest = moved.manifest
    return manifest.size() / _BYTES_PER_SECOND + len(manifest.entries) / _FILES_PER_SECOND


def call_server(
    base_url: str,
    what: str,
    call: Callable[[], _T],
    patience: float,
    seconds: float = 0.0,
    expected: tuple[type[Exception], ...] = (),
) -> _T:
    """Run a call of the SDK with a timeout and return its result.

    Args:
        base_url: the server.
        what: what is asked for, for the message.
        call: the call; after a timeout it goes on in a background thread.
        patience: seconds for which the server may be silent, and that a call may take.
        seconds: seconds the call may take beyond them.
        expected: exceptions to raise unchanged, unless they are of W&B's own kind.

    Raises:
        ServerError: the call failed or took too long.
    """
    outcome: Queue[_T | Exception] = Queue()

    def run() -> None:
        try:
            outcome.put(call())
        except Exception as error:  # raised in the calling thread
            outcome.put(error)

    # The SDK's own timeouts, where it has any, abort the call. Waiting for a thread can be
    # interrupted for a health check and continued.
    threading.Thread(target=run, daemon=True).start()
    began = last_sign = time.monotonic()
    while True:
        left = began + patience + seconds - time.monotonic()
        try:
            answer = outcome.get(timeout=max(0.0, min(left, _PULSE_SECONDS)))
        except Empty:
            pass
        else:
            if isinstance(answer, Exception):
                raise _convert_error(base_url, what, answer, expected) from answer
            return answer
        if is_reachable(base_url, patience):
            last_sign = time.monotonic()
        silent = time.monotonic() - last_sign
        if silent > patience or left < 0:
            raise ServerError(
                f"{what}: W&B at {base_url} has taken {time.monotonic() - began:.0f} s, "
                f"{silent:.0f} s without a sign of life (wandb.patience); run the same command "
                "again when it is well"
            )


def _convert_error(
    base_url: str, what: str, error: Exception, expected: tuple[type[Exception], ...]
) -> Exception:
    """The error to raise: expected ones and ours unchanged, all others as `ServerError`."""
    import wandb

    if isinstance(error, HVPError) or (
        isinstance(error, expected) and not isinstance(error, wandb.Error)
    ):
        return error
    # The SDK raises many types, from three layers (W&B, requests, its own service process).
    return ServerError(
        f"{what}: W&B at {base_url} failed ({' '.join(repr(error).split())[:200]}); "
        "run the same command again when it is well, it goes on from there"
    )
