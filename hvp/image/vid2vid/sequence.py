"""Sequence generator of vid2vid: autoregressive generation; sampling of temporal groups.

Shapes: B batch, N generated frames, T time, C classes, K label maps per window (`n_frames_G`),
H W full size. A pyramid is a list over spatial scales, coarsest first; its last entry has the full
size. Label windows and histories are oldest first.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvp.image.vid2vid.generator import GeneratorOutput, coarsest_generator, finer_generator


def one_hot(labels_BTHW: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """One-hot encode uint8 labels to (B, T, C, H, W) of `dtype`; ignored pixels are all zeros."""
    ids_C11 = torch.arange(n_classes, device=labels_BTHW.device).view(-1, 1, 1)
    return (labels_BTHW.unsqueeze(2) == ids_C11).to(dtype)


def normalise(frames: Tensor, dtype: torch.dtype) -> Tensor:
    """Normalise RGB from uint8 to [-1, 1]."""
    return frames.to(dtype) / 127.5 - 1


def denormalise(frames: Tensor) -> Tensor:
    """Denormalise RGB from [-1, 1] to uint8, rounded."""
    return frames.add(1).mul(127.5).round().clamp(0, 255).byte()


def pyramid(images_BTCHW: Tensor, n_scales: int) -> list[Tensor]:
    """Image pyramid, coarsest first: 3x3 stride-2 average pooling, padding not counted."""
    levels = [images_BTCHW]
    for _ in range(n_scales - 1):
        flat = levels[0].flatten(0, 1)
        smaller = F.avg_pool2d(flat, 3, stride=2, padding=1, count_include_pad=False)
        levels.insert(0, smaller.unflatten(0, levels[0].shape[:2]))
    return levels


class GeneratedSequence(NamedTuple):
    """N generated frames at full size."""

    fake_BN3HW: Tensor
    """RGB in [-1, 1]."""
    raw_BN3HW: Tensor
    """RGB in [-1, 1] without the warped image."""
    flow_BN2HW: Tensor | None
    """Predicted backward flow to the previous frame, in pixels; None with `no_flow`."""
    weight_BN1HW: Tensor | None
    """Blending weight of the hallucinated image, in [0, 1]; None with `no_flow`."""
    history: list[Tensor]
    """Pyramid of the last K-1 frames (B, K-1, 3, h, w), detached: input of the next call."""


class SequenceGenerator(nn.Module):
    """vid2vid generator: label maps and previous frames to the next frame, coarse to fine.

    Args:
        n_classes: classes C.
        n_frames_G: label maps K that the generator sees; it also sees the K-1 previous frames.
        ngf: base width of the coarsest scale; scale s has `ngf / 2**s`.
        n_down: stride-2 convolutions of the coarsest scale.
        n_blocks: residual blocks of the coarsest scale.
        n_blocks_local: residual blocks of each finer scale.
        n_scales_spatial: scales; 1 means the composite generator only.
        foreground_classes: label ids of the foreground branch; empty switches it off.
        no_flow: no flow branch: no warping of the previous frame.
        synthesise_first: start from zeros instead of K-1 given frames.
        norm: `batch` or `instance`.
        flow_multiplier: pixels of flow per unit of the flow head at the coarsest scale.
    """

    def __init__(
        self,
        n_classes: int,
        n_frames_G: int,
        ngf: int,
        n_down: int,
        n_blocks: int,
        n_blocks_local: int,
        n_scales_spatial: int,
        foreground_classes: Sequence[int],
        no_flow: bool,
        synthesise_first: bool,
        norm: str,
        flow_multiplier: float,
    ) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.n_frames_G = n_frames_G
        self.n_scales_spatial = n_scales_spatial
        self.foreground_classes = list(foreground_classes)
        self.no_flow = no_flow
        self.synthesise_first = synthesise_first
        common: dict[str, Any] = {
            "label_width": n_frames_G * n_classes,
            "previous_width": 3 * (n_frames_G - 1),
            "n_down": n_down,
            "norm": norm,
            "flow": not no_flow,
            "foreground": bool(self.foreground_classes),
        }
        scales = [
            coarsest_generator(
                **common, width=ngf, n_blocks=n_blocks, flow_multiplier=flow_multiplier
            )
        ]
        for s in range(1, n_scales_spatial):
            scales.append(
                finer_generator(
                    **common,
                    width=ngf // 2**s,
                    n_blocks=n_blocks_local,
                    flow_multiplier=flow_multiplier * 2**s,
                )
            )
        self.scales = nn.ModuleList(scales)

    def start(self, context_BT3HW: Tensor) -> list[Tensor]:
        """Initial history of a video: pyramid of the K-1 given frames (in [-1, 1]).

        With `synthesise_first` they are ignored: the history is zero (mid-grey).
        """
        if self.synthesise_first:
            context_BT3HW = torch.zeros_like(context_BT3HW)
        return pyramid(context_BT3HW, self.n_scales_spatial)

    def next_frame(
        self, windows: list[Tensor], previous: list[Tensor], raw_only: bool
    ) -> tuple[GeneratorOutput, list[Tensor]]:
        """Generate one frame, coarse to fine.

        Args:
            windows: pyramid of one-hot label windows (B, K, C, h, w), the current map last.
            previous: pyramid of the K-1 previous frames (B, K-1, 3, h, w).
            raw_only: leave out the warped image.

        Returns:
            Output of the finest scale, and the frame at every scale (B, 3, h, w).
        """
        output: GeneratorOutput | None = None
        frames = []
        for scale, window_BKChw, previous_BP3hw in zip(self.scales, windows, previous, strict=True):
            foreground_B1hw = None
            if self.foreground_classes:
                current_BFhw = window_BKChw[:, -1, self.foreground_classes]
                foreground_B1hw = current_BFhw.sum(dim=1, keepdim=True).clamp(0, 1)
            output = scale(
                window_BKChw.flatten(1, 2),
                previous_BP3hw.flatten(1, 2),
                foreground_B1hw,
                output.features if output is not None else None,
                raw_only,
            )
            assert output is not None
            frames.append(output.image_B3HW)
        assert output is not None
        return output, frames

    def forward(
        self,
        labels_BTCHW: Tensor,
        history: list[Tensor],
        n_frames_bp: int,
        n_raw_only: int = 0,
    ) -> GeneratedSequence:
        """Generate one frame per label map, except the first K-1.

        Args:
            labels_BTCHW: one-hot labels (B, N+K-1, C, H, W).
            history: pyramid of the K-1 frames before the first one to generate (`start`, or
                `history` of the call before).
            n_frames_bp: truncated backpropagation through time: the previous frames are detached
                before every n-th frame. With n > 1 a window that was not detached can reach further
                back through its older frames, as in the published code.
            n_raw_only: number of frames without warped images: with `synthesise_first` the
                first chunk in training (as published), the first frame otherwise.
        """
        window = self.n_frames_G
        labels = pyramid(labels_BTCHW, self.n_scales_spatial)
        frames = [list(scale.unbind(1)) for scale in history]
        outputs = []
        for t in range(labels_BTCHW.shape[1] - window + 1):
            windows = [scale[:, t : t + window] for scale in labels]
            previous = [torch.stack(scale[t : t + window - 1], dim=1) for scale in frames]
            if t % n_frames_bp == 0:
                previous = [scale.detach() for scale in previous]
            output, images = self.next_frame(windows, previous, raw_only=t < n_raw_only)
            outputs.append(output)
            for scale, image in zip(frames, images, strict=True):
                scale.append(image)

        def stack(tensors: list[Tensor | None]) -> Tensor | None:
            present = [tensor for tensor in tensors if tensor is not None]
            return torch.stack(present, dim=1) if present else None

        return GeneratedSequence(
            fake_BN3HW=torch.stack([output.image_B3HW for output in outputs], dim=1),
            raw_BN3HW=torch.stack([output.raw_B3HW for output in outputs], dim=1),
            flow_BN2HW=stack([output.flow_B2HW for output in outputs]),
            weight_BN1HW=stack([output.weight_B1HW for output in outputs]),
            history=[torch.stack(scale[-window + 1 :], dim=1).detach() for scale in frames],
        )


def temporal_groups(first: int, stop: int, scale: int, n_frames_D: int) -> list[list[int]]:
    """Frame indices of the groups that a temporal discriminator sees, out of 0 .. stop-1.

    Groups of `n_frames_D` frames, `n_frames_D**scale` apart, that end within the newest chunk
    `first .. stop-1`, newest first; ends are `n_frames_D` apart. Older frames fill up groups.

    Returns:
        Frame indices of each group, oldest first; no groups while the video is too short.
    """
    gap = n_frames_D**scale
    span = gap * (n_frames_D - 1)
    n_ends = min(stop - span, stop - first)
    ends = range(stop - 1, stop - 1 - n_ends, -n_frames_D)
    return [list(range(end - span, end + 1, gap)) for end in ends]
