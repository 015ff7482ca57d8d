"""Data augmentation on the device: flip, resize and random crop, part dropout.

All frames and channels of a clip get the same flip and crop. The random numbers of a clip depend on
(seed, epoch, clip) only, never on the rank, the batch, or an interruption.

Flip and crop are kornia's functions, which keep uint8. Not its augmentation modules: they need
floating point (four times the memory), draw from the global generator, and know neither left/right
ids nor the sign of flow. Not its resize either: it blurs with a Gaussian first, where torch's
antialiasing is the filter of Pillow, with which the clips were stored.

Shapes: B batch, T time, H height, W width, I label id (0..255), C channels.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from kornia.geometry.bbox import bbox_generator
from kornia.geometry.transform import crop_by_indices, hflip
from torch import Tensor

from hvp.clips import ClipBatch
from hvp.labels import LabelSpace, Size


@dataclass(frozen=True)
class ClipAugmentation:
    """Training augmentation of a `ClipBatch`; deterministic in (seed, epoch, clip)."""

    label_space: LabelSpace
    """Label space; gives the ids that swap in a flip."""
    size: Size
    """Output height and width in pixels."""
    load_size: Size | None = None
    """Resize to this first, then random-crop `size` (vid2vid: 72, 64 for KITTI); None = no crop."""
    flip: bool = True
    """Horizontal flip of each clip with probability 1/2."""
    part_dropout: float = 0.0
    """Part dropout: probability that a class other than 0 becomes 0 in a frame (pose: 0.05)."""
    seed: int = 0
    """Random seed."""

    def __call__(self, batch: ClipBatch, epoch: int) -> ClipBatch:
        """Augment a batch; the clip ids stay the same."""
        rngs = [random.Random(f"{self.seed}/{epoch}/{identity}") for identity in batch.ids]
        if self.load_size is not None:
            batch = crop(resize(batch, self.load_size), self._crop_corners(rngs), self.size)
        if self.flip:
            flipped = [rng.random() < 0.5 for rng in rngs]
            device = batch.labels_BTHW.device
            batch = flip(batch, torch.tensor(flipped, device=device), self.label_space)
        if self.part_dropout > 0:
            batch = self._drop_parts(batch, rngs)
        return batch

    def _crop_corners(self, rngs: list[random.Random]) -> list[tuple[int, int]]:
        assert self.load_size is not None
        max_y, max_x = (self.load_size[i] - self.size[i] for i in (0, 1))
        return [(rng.randint(0, max_y), rng.randint(0, max_x)) for rng in rngs]

    def _drop_parts(self, batch: ClipBatch, rngs: list[random.Random]) -> ClipBatch:
        labels = batch.labels_BTHW
        parts, n_frames = self.label_space.n_classes - 1, labels.shape[1]
        drops = [
            [rng.random() < self.part_dropout for _ in range(n_frames * parts)] for rng in rngs
        ]
        table_BTI = torch.arange(256, dtype=torch.uint8).repeat(len(batch), n_frames, 1)
        table_BTI[:, :, 1 : parts + 1][torch.tensor(drops).view(-1, n_frames, parts)] = 0
        dropped = table_BTI.to(labels.device).gather(2, labels.flatten(2).long())
        return replace(batch, labels_BTHW=dropped.view_as(labels))


def flip(batch: ClipBatch, flipped_B: Tensor, space: LabelSpace) -> ClipBatch:
    """Horizontal flip of the clips marked in `flipped_B` (bool): mirrors all channels, swaps left
    and right label ids, and negates the x component of flow.
    """
    chosen_B1111 = flipped_B[:, None, None, None, None]
    batch = _map_channels(batch, lambda clips: torch.where(chosen_B1111, hflip(clips), clips))
    labels, flow = batch.labels_BTHW, batch.flow_BT2HW
    if space.flip_pairs:
        table = torch.from_numpy(space.flip_table()).to(labels.device)
        labels = torch.where(chosen_B1111[:, 0], table[labels.long()], labels)
    if flow is not None:
        sign_2 = flow.new_tensor([-1.0, 1.0])
        flow = torch.where(chosen_B1111, flow * sign_2[:, None, None], flow)
    return replace(batch, labels_BTHW=labels, flow_BT2HW=flow)


def crop(batch: ClipBatch, corners: list[tuple[int, int]], size: Size) -> ClipBatch:
    """Crop a window of `size` at each clip's own corner (top, left)."""
    top_B, left_B = torch.tensor(corners).T
    height_B, width_B = torch.tensor(size).expand(len(batch), 2).T
    boxes = bbox_generator(left_B, top_B, width_B, height_B)

    def cut(clips_BTCHW: Tensor) -> Tensor:
        window = crop_by_indices(clips_BTCHW.flatten(1, 2), boxes, size)
        return window.unflatten(1, clips_BTCHW.shape[1:3])

    return _map_channels(batch, cut)


def _map_channels(batch: ClipBatch, change: Callable[[Tensor], Tensor]) -> ClipBatch:
    """Apply a function to every channel as (B, T, C, H, W)."""
    frames, flow = batch.frames_BT3HW, batch.flow_BT2HW
    return replace(
        batch,
        labels_BTHW=change(batch.labels_BTHW[:, :, None])[:, :, 0],
        frames_BT3HW=None if frames is None else change(frames),
        flow_BT2HW=None if flow is None else change(flow),
    )


def resize(batch: ClipBatch, size: Size) -> ClipBatch:
    """Resize to `size`: labels nearest, RGB bilinear with antialiasing, flow bilinear with its
    vectors scaled to the new pixels.
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
