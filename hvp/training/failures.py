"""Faults of the machine in the middle of a training or prediction, as sentences."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hvp.errors import HVPError

_AGAIN = "everything completed is kept, and the same command goes on"


@contextmanager
def failures_as_sentences(stage: str) -> Iterator[None]:
    """Turn a lack of memory or a dead loader worker into a sentence that names the knob.

    Args:
        stage: name of the stage, for messages.

    Raises:
        HVPError: instead of either.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise HVPError(_out_of_memory(stage, error)) from error
    except RuntimeError as error:
        if "DataLoader worker" in str(error):
            raise HVPError(
                f"stage {stage}: a loader worker died ({_line(error)}); the machine may have "
                "killed it for its memory: give fewer dataset.num_workers (0 loads without "
                f"workers), or more memory; {_AGAIN}"
            ) from error
        if "DefaultCPUAllocator" in str(error):
            raise HVPError(_out_of_memory(stage, error)) from error
        raise


def _out_of_memory(stage: str, error: BaseException) -> str:
    return (
        f"stage {stage}: out of memory ({_line(error)}); give a smaller model.*.batch_size or "
        "model.*.eval_batch_size, fewer dataset.rollout.samples, trainer.precision=bf16-mixed or "
        f"more devices; {_AGAIN}"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
