"""Clips of a prepared dataset for a DataLoader: a whole batch in one gather."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hvp.clips import Channel, ClipBatch, ClipId
from hvp.data.packed import PreparedDataset


class ClipDataset(Dataset[ClipBatch]):
    """Clips of a prepared dataset; each item is a `ClipBatch` of one clip.

    A DataLoader asks for a batch at once (`__getitems__`), and every clip is copied a single time,
    from the memory map into the batch. Pickles without the maps, so that workers may be spawned.
    """

    def __init__(
        self,
        data: PreparedDataset,
        clips: Sequence[ClipId],
        length: int,
        channels: Sequence[Channel],
    ) -> None:
        """Args:
        data: where the frames lie.
        clips: which clips.
        length: frames per clip.
        channels: what to read; always with labels.
        """
        self.data = data
        self.clips = clips
        self.length = length
        self.channels = tuple(channels)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> ClipBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> ClipBatch:
        """The clips at `indices` as one batch (called by the DataLoader)."""
        ids = [self.clips[index] for index in indices]

        def gather(channel: Channel) -> Tensor | None:
            if channel not in self.channels:
                return None
            return torch.from_numpy(self.data.gather(channel, ids, self.length))

        labels, flow = gather("labels"), gather("flow")
        assert labels is not None
        if flow is not None:
            flow[:, 0] = 0  # to a frame outside the clip
        return ClipBatch(labels, ids, gather("frames"), flow)
