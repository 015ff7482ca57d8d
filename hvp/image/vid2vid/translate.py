"""Label maps in, video out: streaming translation of any length in constant memory.

Shapes: N clips (or samples) side by side, T context frames, K label maps per window, H W size.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.image.vid2vid.sequence import SequenceGenerator, one_hot, pyramid, to_range, to_uint8


@torch.no_grad()
def translate(
    generator: SequenceGenerator,
    labels: Iterable[Tensor],
    context_labels_NTHW: Tensor,
    context_frames_NT3HW: Tensor,
) -> Iterator[Tensor]:
    """Generate one RGB frame per label map, each from the frames generated before it.

    Runs on the generator's device in evaluation mode, and holds K label maps and K-1 frames at any
    time.

    Args:
        generator: a trained generator; left in evaluation mode.
        labels: uint8 label maps (N, H, W), one per frame to generate, in order.
        context_labels_NTHW: uint8 label maps of the T >= K-1 frames before them.
        context_frames_NT3HW: uint8 true RGB frames, as many; only the last K-1 are used, and none
            by a generator with `synthesise_first`.

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

    context = to_range(context_frames_NT3HW[:, -n_given:].to(device), dtype)
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
        yield to_uint8(output.image_B3HW).cpu()


def _append(window_NT: Tensor, newest_N1: Tensor, length: int) -> Tensor:
    """The last `length` entries on the time axis of `window_NT` followed by `newest_N1`."""
    return torch.cat([window_NT, newest_N1], dim=1)[:, -length:]
