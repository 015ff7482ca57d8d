"""Video clips: identity, channels, and batches with their collate function.

Shapes: B batch, T time, H height, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Channel = Literal["labels", "frames", "flow"]
"""Per-frame data of a clip: semantic label map, RGB frame, optical flow."""


class ClipId(NamedTuple):
    """Identity of a clip: frames `first`, `first + step`, ... of one recording."""

    recording: str
    """Name of the recording, for example `2011_09_26/2011_09_26_drive_0005_sync`."""
    first: int
    """Index of the first frame within the recording, from 0."""
    step: int
    """Frame step: recorded frames from one frame of the clip to the next."""

    def __str__(self) -> str:
        return f"{self.recording}@{self.first}+{self.step}"


@dataclass
class ClipBatch:
    """Batch of clips, batch first; uint8 until it is on the device."""

    labels_BTHW: Tensor
    """Label maps (B, T, H, W) uint8."""
    ids: list[ClipId]
    """Identities of the B clips."""
    frames_BT3HW: Tensor | None = None
    """RGB frames (B, T, 3, H, W) uint8, at the label maps' size; None where not loaded."""
    flow_BT2HW: Tensor | None = None
    """Ground-truth backward optical flow (B, T, 2, H, W) float32, pixels, x then y, from frame t to
    t-1 (0 for t = 0): frame_t(p) = frame_{t-1}(p + flow_t(p)). None where the dataset has none."""

    def _map(self, function: Callable[[Tensor], Tensor]) -> "ClipBatch":
        tensors: dict[str, Any] = {
            n: function(v) for n, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **tensors)

    def to(self, *args: Any, **kwargs: Any) -> "ClipBatch":
        """Move every tensor (arguments of `Tensor.to`; give a device, keep the dtypes)."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> "ClipBatch":
        """Copy every tensor to pinned memory (called by the DataLoader)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def __len__(self) -> int:
        return self.labels_BTHW.shape[0]


def collate(clips: ClipBatch | Sequence[ClipBatch]) -> ClipBatch:
    """Collate function: concatenates batches (usually of one clip each) along B.

    A single batch passes unchanged: `ClipDataset` gathers whole batches.
    """
    if isinstance(clips, ClipBatch):
        return clips

    def cat(name: str) -> Tensor | None:
        values = [getattr(clip, name) for clip in clips]
        return None if any(value is None for value in values) else torch.cat(values)

    labels = cat("labels_BTHW")
    assert labels is not None
    return ClipBatch(
        labels_BTHW=labels,
        ids=[identity for clip in clips for identity in clip.ids],
        frames_BT3HW=cat("frames_BT3HW"),
        flow_BT2HW=cat("flow_BT2HW"),
    )
