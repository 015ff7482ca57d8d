"""Clips: their identity, their channels, and batches of them.

Shapes: B batch, T time, H height, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Channel = Literal["labels", "frames", "flow"]
"""What is known about every frame of a clip."""


class ClipId(NamedTuple):
    """Which frames a clip shows: `first`, `first + step`, ... of one recording."""

    recording: str
    """Name of the recording, for example `2011_09_26/2011_09_26_drive_0005_sync`."""
    first: int
    """Index of the clip's first frame within the recording, counted from 0."""
    step: int
    """Distance between two frames of the clip, in recorded frames."""

    def __str__(self) -> str:
        return f"{self.recording}@{self.first}+{self.step}"


@dataclass
class ClipBatch:
    """A batch of clips, uint8 until it is on the device."""

    labels_BTHW: Tensor
    """uint8 label ids (B, T, H, W)."""
    ids: list[ClipId]
    """The B clips' origins."""
    frames_BT3HW: Tensor | None = None
    """uint8 RGB (B, T, 3, H, W), at the label maps' size; None where stage one needs none."""
    flow_BT2HW: Tensor | None = None
    """float32 exact backward flow in pixels (B, T, 2, H, W; x then y) from frame t to t-1 (zero
    for t = 0): frame_t(p) = frame_{t-1}(p + flow_t(p)). None where the dataset has none."""

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
    """Concatenate batches (usually of one clip each) along B; what is one batch passes as it is
    (a `ClipDataset` gathers whole batches).
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
