"""Translation of label maps to RGB with vid2vid, streamed: any length in constant memory.

Shapes: N videos in a batch, T context frames, K label maps per window, H W size.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.image.vid2vid.sequence import SequenceGenerator, denormalise, normalise, one_hot, pyramid


@torch.no_grad()
def translate(
    generator: SequenceGenerator,
    labels: Iterable[Tensor],
    context_labels_NTHW: Tensor,
    context_frames_NT3HW: Tensor,
) -> Iterator[Tensor]:
    """Translation: generate one RGB frame per label map, autoregressively.

    Runs on the generator's device in eval mode and holds K label maps and K-1 frames at a time.

    Args:
        generator: a trained generator; left in eval mode.
        labels: uint8 label maps (N, H, W), one per frame to generate, in order.
        context_labels_NTHW: uint8 label maps of the T >= K-1 frames before them.
        context_frames_NT3HW: uint8 true RGB of the same frames; the last K-1 are used, and none
            with `synthesise_first`.

    Yields:
        uint8 RGB (N, 3, H, W) on the CPU.

    Raises:
        DataError: fewer than K-1 context frames.
    """
    parameter = next(generator.parameters())
    device, dtype = parameter.device, parameter.dtype
    n_given = generator.n_frames_G - 1
    n_context = min(context_labels_NTHW.shape[1], context_frames_NT3HW.shape[1])
    if n_context < n_given:
        raise DataError(
            f"{n_context} context frames, but n_frames_G={generator.n_frames_G} needs {n_given}; "
            "predict with a longer context (n_past) or train an image generator with fewer frames"
        )
    generator.eval()

    def label_levels(labels_NTHW: Tensor) -> list[Tensor]:
        hot = one_hot(labels_NTHW.to(device), generator.n_classes, dtype)
        return pyramid(hot, generator.n_scales_spatial)

    context = normalise(context_frames_NT3HW[:, -n_given:].to(device), dtype)
    history = generator.start(context)
    windows = label_levels(context_labels_NTHW[:, -n_given:])
    raw_only = generator.synthesise_first
    for labels_NHW in labels:
        current = label_levels(labels_NHW.unsqueeze(1))
        windows = [_append(*pair, n_given + 1) for pair in zip(windows, current, strict=True)]
        output, frames = generator.next_frame(windows, history, raw_only)
        raw_only = False
        history = [
            _append(previous, frame.unsqueeze(1), n_given)
            for previous, frame in zip(history, frames, strict=True)
        ]
        yield denormalise(output.image_B3HW).cpu()


def _append(window_NT: Tensor, newest_N1: Tensor, length: int) -> Tensor:
    """Sliding window over time: append `newest_N1`, keep the last `length` entries."""
    return torch.cat([window_NT, newest_N1], dim=1)[:, -length:]
