"""Which rank gets which clip when: seeded, sharded, resumable.

The order depends on (seed, epoch) only. `ClipSampler` is a `DistributedSampler` by type so that
Lightning leaves it alone instead of sharding a second time.
"""

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler

from hvp.clips import ClipBatch


class ClipSampler(DistributedSampler[int]):
    """Indices of one rank's clips.

    The ranks' shards are disjoint. Without shuffling (evaluation) they cover every clip once and
    may differ by one in length; with shuffling (training) the remainder that would leave the last
    global batch incomplete is dropped, another one each epoch.
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
        dataset: what is indexed; only its length matters.
        batch_size: clips per batch of one rank.
        rank: this process.
        world_size: number of processes.
        shuffle: training order instead of the dataset's order.
        seed: of the training order.
        epoch: of the training order.
        """
        self.n_items = len(dataset)
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = epoch
        self.skip_batches = 0
        """Batches that the next pass leaves out at its beginning."""

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
        """Of this rank's workers' seeds; depends on seed, epoch and rank only."""
        return torch.Generator().manual_seed(self._epoch_seed * self.world_size + self.rank)

    def __len__(self) -> int:
        if self.shuffle:
            global_batch = self.batch_size * self.world_size
            return self.n_items // global_batch * self.batch_size
        return (self.n_items - self.rank + self.world_size - 1) // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the training order of `epoch` (called by Lightning)."""
        self.epoch = epoch


class StatefulDataLoader(DataLoader[ClipBatch]):
    """A DataLoader over a `ClipSampler` that goes on inside an epoch.

    Lightning saves `state_dict` in its checkpoints and loads it before the first batch.
    """

    sampler: ClipSampler
    _batches_yielded = 0

    def __iter__(self) -> Iterator[ClipBatch]:  # type: ignore[override]
        self._batches_yielded = self.sampler.skip_batches
        for batch in super().__iter__():
            self._batches_yielded += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The epoch and how many of its batches were handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._batches_yielded}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Skip what was handed out, if `state` is of the epoch this loader is made for."""
        if state["epoch"] == self.sampler.epoch:
            self.sampler.skip_batches = self._batches_yielded = state["batches"]
