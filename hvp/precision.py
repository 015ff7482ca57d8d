"""Precision of losses and metrics: float32 at least, whatever a network computes in."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")


def full_precision(tensor: Tensor) -> Tensor:
    """A floating-point tensor as float32; float64 stays. Differentiable, no copy of float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def without_autocast(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator of a metric: runs with autocast off on the device of its first tensor."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(next(tensors).device.type, enabled=False):
            return function(*args, **kwargs)

    return wrapped
