"""Calls of the W&B SDK: their many errors become one of ours, and none waits for a dead server."""

import threading
import time
from collections.abc import Callable
from queue import Empty, Queue
from typing import TYPE_CHECKING, TypeVar

from hvp.artifacts.wandb_record import answers
from hvp.errors import ServerError

if TYPE_CHECKING:
    import wandb

_PULSE_SECONDS = 3.0  # between two looks at whether the server of an upload is alive
_T = TypeVar("_T")


def asked(
    base_url: str, what: str, ask: Callable[[], _T], passed: tuple[type[Exception], ...] = ()
) -> _T:
    """What `ask`, a call of the SDK, answers.

    Args:
        base_url: the server, for the message.
        what: what is asked for, for the message.
        ask: the call.
        passed: exceptions that are an answer, unless they are W&B's own kind.

    Raises:
        ServerError: the call failed.
    """
    import wandb

    try:
        return ask()
    except passed as error:
        if isinstance(error, wandb.Error):
            raise _failed(base_url, what, error) from error
        raise
    except Exception as error:  # of many kinds, from three layers; all mean the same here
        raise _failed(base_url, what, error) from error


def wait_for_upload(logged: "wandb.Artifact", base_url: str, patience: float) -> None:
    """Wait until an artifact is stored, however large it is, but not for a dead server.

    Args:
        logged: what `log_artifact` returned.
        base_url: its server.
        patience: seconds for which the server may be silent.

    Raises:
        ServerError: the upload failed, or the server was silent for longer.
    """
    outcome: Queue[Exception | None] = Queue()

    def wait() -> None:
        try:
            logged.wait()
            outcome.put(None)
        except Exception as error:  # told to the thread that asked
            outcome.put(error)

    # W&B's own time-out gives the upload up; a thread that waits can be waited for in turns.
    threading.Thread(target=wait, daemon=True).start()
    heard = time.monotonic()
    while True:
        try:
            error = outcome.get(timeout=_PULSE_SECONDS)
        except Empty:
            pass
        else:
            if error is not None:
                raise _failed(base_url, f"upload of {logged.name}", error) from error
            return
        if answers(base_url):
            heard = time.monotonic()
        elif time.monotonic() - heard > patience:
            raise ServerError(
                f"upload of {logged.name}: W&B at {base_url} has not answered for {patience:g} s "
                "(wandb.upload_patience); run the same command again when it is well"
            )


def _failed(base_url: str, what: str, error: Exception) -> ServerError:
    return ServerError(
        f"{what}: W&B at {base_url} failed ({' '.join(repr(error).split())[:200]}); "
        "run the same command again when it is well, it goes on from there"
    )
