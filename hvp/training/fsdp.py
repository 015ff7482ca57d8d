"""FSDP2 strategy: weights, gradients and optimizer states sharded over the ranks, block by block.

Lightning's FSDP strategy wraps FSDP1, which runs on GPUs only; this one uses FSDP2 (`fully_shard`)
and writes ordinary checkpoints: one file, unsharded tensors.
"""

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.utilities.optimizer import _optimizers_to_device
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from hvp.model import Model
from hvp.training.ddp import FloatMeanReduction


class ShardedStrategy(FloatMeanReduction, ModelParallelStrategy):
    """FSDP2: each rank holds a shard of every parameter, its gradient and optimizer state.

    Weights are all-gathered for a training or validation step and resharded after it; gradients are
    reduce-scattered at the end of the backward pass. Prediction uses unsharded weights.

    For one optimizer only: a GAN's two steps each need the gradients of a part of the weights.
    """

    in_step = True
    """All ranks take part in every forward pass: none may have more batches than others."""

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Device mesh: one data-parallel group of all ranks of all nodes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        self._tensor_parallel_size = 1
        super().setup_environment()

    def setup(self, trainer: pl.Trainer) -> None:
        """Shard the module, then create its optimizers.

        Replaces Lightning's, which leaves sharding to the module (`configure_model`).
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
        """Broadcast the weights of rank zero, then shard the module."""
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
