"""All-reduce of scalars over the ranks of a distributed job."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean over the ranks of named scalars on one device, in a single all-reduce.

    Every rank must give the same names in the same order. One process: `values` as they are.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    exact = any(value.dtype == torch.float64 for value in values.values())
    dtype = torch.float64 if exact else torch.float32
    together = torch.stack([value.detach().to(dtype) for value in values.values()])
    dist.all_reduce(together)
    return dict(zip(values, (together / dist.get_world_size()).unbind(), strict=True))
