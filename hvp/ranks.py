"""Scalars of all ranks brought together."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars of one device averaged over the ranks, in one exchange; every rank names the same."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    together = torch.stack([value.detach().float() for value in values.values()])
    dist.all_reduce(together)
    return dict(zip(values, (together / dist.get_world_size()).unbind(), strict=True))
