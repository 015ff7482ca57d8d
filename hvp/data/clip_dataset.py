"""Map-style dataset of clips that gathers a whole batch at once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hvp.clips import Channel, ClipBatch, ClipId
from hvp.data.packed import PreparedDataset


class ClipDataset(Dataset[ClipBatch]):
    """Map-style PyTorch dataset of clips; an item is a `ClipBatch` of one clip.

    The DataLoader fetches whole batches (`__getitems__`): every clip is copied once, from the
    memory map into the batch. Pickles without the maps, so that loader workers may be spawned.
    """

    def __init__(
        self,
        data: PreparedDataset,
        clips: Sequence[ClipId],
        length: int,
        channels: Sequence[Channel],
    ) -> None:
        """Args:
        data: prepared dataset.
        clips: clips, in the order of the indices.
        length: frames per clip.
        channels: channels to read; `labels` must be among them.
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
        """Batch of the clips at `indices` (called by the DataLoader)."""
        ids = [self.clips[index] for index in indices]

        def gather(channel: Channel) -> Tensor | None:
            if channel not in self.channels:
                return None
            return torch.from_numpy(self.data.gather(channel, ids, self.length))

        labels, flow = gather("labels"), gather("flow")
        assert labels is not None
        if flow is not None:
            flow[:, 0] = 0  # it leads to a frame outside the clip
        return ClipBatch(labels, ids, gather("frames"), flow)
