"""Augmentation on the device: flips, resize and crop, part dropout, the same for a whole clip.

What happens to a clip depends only on (seed, epoch, clip), never on the rank, the batch or how
often a run was interrupted.

Shapes: B batch, T time, H height, W width, h w size after cropping.
"""

import random
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from hvp.data.clips import ClipBatch
from hvp.data.readers import Size
from hvp.labels import LabelSpace


@dataclass(frozen=True)
class ClipAugmentation:
    """Training augmentation of a `ClipBatch`."""

    label_space: LabelSpace
    """Gives the ids that swap in a flip."""
    size: Size
    """Height and width of the result."""
    load_size: Size | None = None
    """Resize to this first, then crop `size` at random (vid2vid: 72 and 64 for KITTI)."""
    flip: bool = True
    """Mirror each clip with probability 1/2."""
    part_dropout: float = 0.0
    """Probability that a class other than 0 is set to 0 in a frame (pose: 0.05)."""
    seed: int = 0
    """Seed of all random choices."""

    def __call__(self, batch: ClipBatch, epoch: int) -> ClipBatch:
        """Augment `batch`; its ids stay those of the clips it was made from."""
        dice = [random.Random(f"{self.seed}/{epoch}/{identity}") for identity in batch.ids]
        if self.load_size is not None:
            batch = crop(resize(batch, self.load_size), self._corners(dice), self.size)
        if self.flip:
            flipped = [die.random() < 0.5 for die in dice]
            device = batch.labels_BTHW.device
            batch = flip(batch, torch.tensor(flipped, device=device), self.label_space)
        if self.part_dropout > 0:
            batch = self._drop_parts(batch, dice)
        return batch

    def _corners(self, dice: list[random.Random]) -> list[tuple[int, int]]:
        assert self.load_size is not None
        room_y, room_x = (self.load_size[i] - self.size[i] for i in (0, 1))
        return [(die.randint(0, room_y), die.randint(0, room_x)) for die in dice]

    def _drop_parts(self, batch: ClipBatch, dice: list[random.Random]) -> ClipBatch:
        labels = batch.labels_BTHW.clone()
        for clip_THW, die in zip(labels, dice, strict=True):
            for frame_HW in clip_THW:
                for part in range(1, self.label_space.n_classes):
                    if die.random() < self.part_dropout:
                        frame_HW[frame_HW == part] = 0
        return replace(batch, labels_BTHW=labels)


def flip(batch: ClipBatch, flipped_B: Tensor, space: LabelSpace) -> ClipBatch:
    """Mirror the clips marked in `flipped_B` (bool): labels with left and right ids swapped, RGB,
    and flow with its x component negated.
    """

    def mirror(clips: Tensor) -> Tensor:
        chosen = flipped_B.reshape(-1, *[1] * (clips.ndim - 1))
        return torch.where(chosen, clips.flip(-1), clips)

    labels = mirror(batch.labels_BTHW)
    if space.flip_pairs:
        table = torch.from_numpy(space.flip_table()).to(labels.device)
        labels = torch.where(flipped_B[:, None, None, None], table[labels.long()], labels)
    flow = batch.flow_BT2HW
    if flow is not None:
        flow = mirror(flow)
        sign_B = torch.where(flipped_B, -1.0, 1.0).to(flow.dtype)
        flow = torch.cat([flow[:, :, :1] * sign_B[:, None, None, None, None], flow[:, :, 1:]], 2)
    frames = batch.frames_BT3HW
    return replace(
        batch,
        labels_BTHW=labels,
        frames_BT3HW=None if frames is None else mirror(frames),
        flow_BT2HW=flow,
    )


def resize(batch: ClipBatch, size: Size) -> ClipBatch:
    """Resize to `size`: labels nearest, RGB bilinear with antialiasing, flow bilinear and scaled
    to the new pixels.
    """
    labels, frames, flow = batch.labels_BTHW, batch.frames_BT3HW, batch.flow_BT2HW
    height, width = labels.shape[-2:]
    if (height, width) == size:
        return batch
    labels = F.interpolate(labels, size, mode="nearest-exact")
    if frames is not None:
        smooth = F.interpolate(frames.flatten(0, 1).float(), size, mode="bilinear", antialias=True)
        frames = smooth.round().clamp(0, 255).to(torch.uint8).unflatten(0, frames.shape[:2])
    if flow is not None:
        scale = flow.new_tensor([size[1] / width, size[0] / height])[:, None, None]
        smooth = F.interpolate(flow.flatten(0, 1), size, mode="bilinear", antialias=True)
        flow = smooth.unflatten(0, flow.shape[:2]) * scale
    return replace(batch, labels_BTHW=labels, frames_BT3HW=frames, flow_BT2HW=flow)


def crop(batch: ClipBatch, corners: list[tuple[int, int]], size: Size) -> ClipBatch:
    """Cut a window of `size` at each clip's own corner (top, left)."""

    def cut(clips: Tensor | None) -> Tensor | None:
        if clips is None:
            return None
        windows = [
            clip[..., top : top + size[0], left : left + size[1]]
            for clip, (top, left) in zip(clips, corners, strict=True)
        ]
        return torch.stack(windows)

    labels = cut(batch.labels_BTHW)
    assert labels is not None
    return replace(
        batch,
        labels_BTHW=labels,
        frames_BT3HW=cut(batch.frames_BT3HW),
        flow_BT2HW=cut(batch.flow_BT2HW),
    )
