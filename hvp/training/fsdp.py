"""FSDP: weights, gradients and optimizer states sharded over the ranks, block by block.

Lightning's own FSDP strategy wraps torch's first FSDP, which knows GPUs only; this is the second
(`fully_shard`), which takes part in checkpoints like any other training: one file, whole tensors.
"""

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.utilities.optimizer import _optimizers_to_device
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from hvp.model import Model
from hvp.training.ddp import ExactMeans


class ShardedStrategy(ExactMeans, ModelParallelStrategy):
    """Each rank keeps its share of every parameter, and of what the optimizer knows about it.

    For a training or validation step the weights are put together, and taken apart after it; the
    gradients are averaged and taken apart once at the end of the backward pass. Predictions are
    made with whole weights.

    One optimizer only: a GAN's two steps would each need the gradients of a part of the weights.
    """

    in_step = True
    """All ranks take part in every forward pass: none may have more batches than others."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Make all ranks, of all nodes, one group that shares the weights."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        """Take the module apart, then make its optimizers.

        In place of Lightning's, which leaves the first to the module (`configure_model`).
        """
        assert self.model is not None
        assert self.accelerator is not None
        self.accelerator.setup(trainer)
        fitting = trainer.state.fn == TrainerFn.FITTING
        if fitting and self._layer_sync:
            self.model = self._layer_sync.apply(self.model)
        self.model = self.precision_plugin.convert_module(self.model)
        self.model_to_device()
        if fitting:
            self._shard()
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()
        if fitting:
            _optimizers_to_device(self.optimizers, self.root_device)

    def _shard(self) -> None:
        """Take the module apart, all ranks from the weights of rank zero."""
        module = self.model
        assert module is not None
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)
        mesh = self.device_mesh["data_parallel"]
        blocks = module.sharded_blocks() if isinstance(module, Model) else {}
        for block, methods in blocks.items():
            fully_shard(block, mesh=mesh)
            for method in methods:
                register_fsdp_forward_method(block, method)
        fully_shard(module, mesh=mesh, reshard_after_forward=False)
        for method in ("training_step", "validation_step"):
            register_fsdp_forward_method(module, method)
