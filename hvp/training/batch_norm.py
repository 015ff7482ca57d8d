"""Synchronised batch norm (SyncBatchNorm) on GPUs and CPUs."""

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SyncBatchNorms(TorchSyncBatchNorm):
    """SyncBatchNorm plugin of `trainer.sync_batchnorm=true`, for CPUs too."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert batch norm layers to SyncBatchNorm: statistics over the batches of all ranks."""
        model = super().apply(model)
        for module in model.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.__class__ = _SyncBatchNorm
        return model


class _SyncBatchNorm(nn.SyncBatchNorm):
    """SyncBatchNorm with a CPU path (torch's is for GPUs only): differentiable all-reduces."""

    def forward(self, input: Tensor) -> Tensor:
        if input.is_cuda or not self.training or not dist.is_initialized():
            return super().forward(input)
        dims = [0, *range(2, input.ndim)]
        count = input.numel() / input.shape[1] * dist.get_world_size()
        mean = all_reduce(input.sum(dims)) / count
        centred = input - mean.view(1, -1, *[1] * (input.ndim - 2))
        variance = all_reduce(centred.square().sum(dims)) / count
        if self.running_mean is not None and self.running_var is not None:
            self._update_running_stats(mean.detach(), variance.detach() * (count / (count - 1)))
        shape = (1, -1, *[1] * (input.ndim - 2))
        normalised = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is None:
            return normalised
        return normalised * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum or 0.0)
        self.running_var.lerp_(variance, self.momentum or 0.0)
