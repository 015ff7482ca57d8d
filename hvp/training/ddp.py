"""DDP (distributed data parallel) whose results equal one process on the whole batch."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, ParallelStrategy
from torch import Tensor
from torch.distributed import ReduceOp
from torch.optim import Optimizer

_BUCKET_ELEMENTS = 2**24


class FloatMeanReduction(ParallelStrategy):
    """Mixin: floating-point mean reduction, for ranks with unequal numbers of validation clips.

    Lightning weights metrics with the mean number of clips per rank, which it computes in integers:
    the mean of 2 clips on one rank and 1 on the other becomes 1.
    """

    def reduce(
        self, tensor: Tensor | Any, group: Any = None, reduce_op: ReduceOp | str | None = "mean"
    ) -> Tensor | Any:
        """Reduce `tensor` over the ranks; the mean of integers is a float64."""
        integers = isinstance(tensor, Tensor) and not tensor.is_floating_point()
        if integers and reduce_op in ("mean", "avg", ReduceOp.AVG):
            tensor = tensor.to(torch.float64)
        return super().reduce(tensor, group, reduce_op)  # type: ignore[safe-super]


class RankStrategy(FloatMeanReduction, DDPStrategy):
    """DDP strategy that supports manual optimization (GANs) without `find_unused_parameters`.

    Torch's DDP all-reduces gradients during a backward pass that uses every parameter. A GAN has
    two backward passes per step, each over a part of the parameters (and, while clips are short,
    not even over all discriminators); DDP would have to search the graph of each pass for unused
    parameters. Under manual optimization the gradients of an optimizer are therefore averaged right
    before its step: those that exist, in the order of its parameters, which is the same on every
    rank, as all ranks train on clips of one length. Under automatic optimization this is plain DDP,
    which overlaps all-reduce and backward.
    """

    def configure_ddp(self) -> None:
        """Wrap the module in torch's DDP; under manual optimization only broadcast the weights."""
        assert self.lightning_module is not None
        if self.lightning_module.automatic_optimization:
            super().configure_ddp()
            return
        for tensor in self.lightning_module.state_dict().values():
            dist.broadcast(tensor, src=0)

    def optimizer_step(
        self,
        optimizer: Optimizer,
        closure: Callable[[], Any],
        model: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Optimizer step; under manual optimization average the gradients over the ranks first."""
        assert self.lightning_module is not None
        if not self.lightning_module.automatic_optimization:
            average_gradients(p for group in optimizer.param_groups for p in group["params"])
        return super().optimizer_step(optimizer, closure, model, **kwargs)

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Validation step without torch's DDP wrapper, which broadcasts buffers on every forward.

        A rank may have more batches than others; buffers are equal, as batch norm is synchronised.
        """
        assert self.lightning_module is not None
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*args, **kwargs)


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """All-reduce gradients to their mean over the ranks, in buckets of millions of elements."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    while gradients:
        bucket = [gradients.pop(0)]
        while gradients and sum(map(torch.numel, bucket)) < _BUCKET_ELEMENTS:
            if gradients[0].dtype != bucket[0].dtype:
                break
            bucket.append(gradients.pop(0))
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        parts = flat.split([gradient.numel() for gradient in bucket])
        torch._foreach_copy_(
            bucket, [part.view_as(g) for part, g in zip(parts, bucket, strict=True)]
        )
