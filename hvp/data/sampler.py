"""Distributed sampler and stateful dataloader: seeded, sharded over ranks, resumable in an epoch.

The order depends on (seed, epoch) only.
"""

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler

from hvp.clips import ClipBatch


class ClipSampler(DistributedSampler[int]):
    """Distributed sampler of clip indices; resumes inside an epoch.

    The ranks' shards are disjoint. Without shuffling (evaluation) they cover every clip once and
    may differ by one in length; with shuffling (training) the remainder of the last global batch is
    dropped, another one each epoch.

    Subclasses `DistributedSampler` only so that Lightning does not shard a second time.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        """Args:
        dataset: indexed dataset; only its length is used.
        batch_size: per-rank batch size.
        rank: rank of this process.
        world_size: number of ranks.
        shuffle: random order instead of the dataset's order.
        seed: random seed of the order.
        epoch: epoch of the order.
        """
        self.n_items = len(dataset)
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.skip_batches = 0
        """Number of batches to skip at the start of the next iteration."""

    def __iter__(self) -> Iterator[int]:
        start = self.skip_batches * self.batch_size
        self.skip_batches = 0
        if self.shuffle:
            generator = torch.Generator().manual_seed(self._epoch_seed)
            order = torch.randperm(self.n_items, generator=generator)
            order = order[: len(self) * self.world_size]
        else:
            order = torch.arange(self.n_items)
        return iter(order[self.rank :: self.world_size][start:].tolist())

    @property
    def _epoch_seed(self) -> int:
        return self.seed * 1_000_003 + self.epoch

    def worker_generator(self) -> torch.Generator:
        """Random generator of this rank's worker seeds; depends on (seed, epoch, rank) only."""
        return torch.Generator().manual_seed(self._epoch_seed * self.world_size + self.rank)

    def __len__(self) -> int:
        if self.shuffle:
            global_batch = self.batch_size * self.world_size
            return self.n_items // global_batch * self.batch_size
        return (self.n_items - self.rank + self.world_size - 1) // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the order (called by Lightning)."""
        self.epoch = epoch


class StatefulDataLoader(DataLoader[ClipBatch]):
    """DataLoader over a `ClipSampler` that resumes inside an epoch.

    Lightning saves its `state_dict` in checkpoints and loads it before the first batch.
    """

    sampler: ClipSampler
    _batches_yielded = 0

    def __iter__(self) -> Iterator[ClipBatch]:  # type: ignore[override]
        self._batches_yielded = self.sampler.skip_batches
        for batch in super().__iter__():
            self._batches_yielded += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch, and number of its batches yielded so far."""
        return {"epoch": self.sampler.epoch, "batches": self._batches_yielded}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Skip the batches already yielded, if `state` is of this loader's epoch."""
        if state["epoch"] == self.sampler.epoch:
            self.sampler.skip_batches = self._batches_yielded = state["batches"]
