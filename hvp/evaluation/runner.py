"""Measures predictions against ground truth, with the baselines that give the numbers a scale.

Shapes: S samples, T time, H height, W width. All streams start at the clip's first frame, context
included; the context itself is never measured.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import (
    BEST,
    COPY_LAST,
    IMAGE_MODEL,
    MEAN,
    ORACLE,
    STRUCTURE_MODEL,
    Curve,
    Result,
)
from hvp.labels import LabelSpace
from hvp.metrics.horizon import HorizonCurve
from hvp.metrics.image import HorizonImageQuality
from hvp.metrics.segmentation import HorizonIoU

_STEPS_AT_ONCE = 16  # frames of a stream held in memory while RGB is measured


def evaluate_structure(
    clips: Iterable[tuple[str, np.ndarray, np.ndarray]], protocol: Protocol, space: LabelSpace
) -> Result:
    """mIoU and pixel accuracy of predicted label maps, beside copying the last context frame.

    Args:
        clips: for each clip its name, the samples (S, T, H, W) uint8 with the context first and at
            least `protocol.horizon` frames behind it, and the ground truth (T, H, W) uint8, which
            may end earlier or later than that.
        protocol: what is measured; the clips must be what it says.
        space: the classes.

    Raises:
        DataError: clips are not what the protocol says, or have ids outside the label space.
    """
    model = HorizonIoU(space.n_classes, protocol.horizon)
    copy_last = HorizonIoU(space.n_classes, protocol.horizon)
    best: dict[str, dict[str, int]] = {name: {} for name in model.names}
    context, end = protocol.context, protocol.context + protocol.horizon
    n_clips = 0
    for name, samples, truth in clips:
        n_clips += 1
        expected = (protocol.n_samples, end, protocol.height, protocol.width)
        _check_shape(name, "samples (S, T, H, W)", samples[:, :end].shape, expected)
        expected_truth = (max(len(truth), context), protocol.height, protocol.width)
        _check_shape(name, "ground truth (T, H, W)", truth.shape, expected_truth)
        samples_STHW = torch.from_numpy(np.array(samples[:, context:end]))
        truth_THW = torch.from_numpy(np.array(truth[context:end]))
        last_1THW = torch.from_numpy(np.array(truth[context - 1])).expand(1, *truth_THW.shape)
        try:
            model.update(samples_STHW, truth_THW)
            copy_last.update(last_1THW, truth_THW)
        except DataError as error:
            raise DataError(f"clip {name}: {error}") from error
        _note_best(best, model, name)
    _check_count(n_clips, protocol)

    curves: list[Curve] = []
    class_iou = {}
    for system, metric in ((STRUCTURE_MODEL, model), (COPY_LAST, copy_last)):
        scores = metric.compute()
        curves += _curves(system, "miou", scores.miou)
        curves += _curves(system, "pixel_accuracy", scores.pixel_accuracy)
        class_iou[system] = dict(zip(space.classes, scores.class_iou.tolist(), strict=True))
    return Result(protocol, tuple(curves), best, class_iou)


@dataclass(frozen=True)
class ImageClip:
    """RGB streams of one clip: frames (H, W, 3) uint8, context first, read once and in step."""

    name: str
    truth: Iterable[np.ndarray]
    """The real frames; they may end earlier or later than the horizon."""
    samples: Sequence[Iterable[np.ndarray]]
    """S streams from the image model on predicted label maps."""
    oracle: Iterable[np.ndarray] | None = None
    """One stream from the image model on the ground-truth label maps; shows how much of the error
    is the image model's own. Where given, at least as long as the compared ground truth."""


def evaluate_images(clips: Iterable[ImageClip], protocol: Protocol) -> Result:
    """PSNR and SSIM of predicted frames, beside copying the last context frame and the oracle.

    Memory does not grow with the horizon: streams are read a few frames at a time, and no further
    than there is ground truth.

    Args:
        clips: the streams of each clip; all clips have an oracle or none has.
        protocol: what is measured; the clips must be what it says.

    Raises:
        DataError: clips are not what the protocol says.
    """
    metrics = {name: HorizonImageQuality(protocol.horizon) for name in (IMAGE_MODEL, COPY_LAST)}
    best: dict[str, dict[str, int]] = {name: {} for name in metrics[IMAGE_MODEL].names}
    n_clips = 0
    for clip in clips:
        if n_clips == 0 and clip.oracle is not None:
            metrics[ORACLE] = HorizonImageQuality(protocol.horizon)
        if (clip.oracle is None) == (ORACLE in metrics):
            raise DataError(
                f"clip {clip.name}: {'no' if clip.oracle is None else 'an'} oracle stream, unlike "
                "the clips before it; give one to all clips or to none"
            )
        if len(clip.samples) != protocol.n_samples:
            raise DataError(
                f"clip {clip.name}: {len(clip.samples)} sample streams, but the evaluation "
                f"protocol says {protocol.n_samples}"
            )
        n_clips += 1
        _measure_images(clip, protocol, metrics)
        _note_best(best, metrics[IMAGE_MODEL], clip.name)
    _check_count(n_clips, protocol)

    curves: list[Curve] = []
    for system, metric in metrics.items():
        scores = metric.compute()
        curves += _curves(system, "psnr", scores.psnr)
        curves += _curves(system, "ssim", scores.ssim)
    return Result(protocol, tuple(curves), best, class_iou={})


def _measure_images(
    clip: ImageClip, protocol: Protocol, metrics: dict[str, HorizonImageQuality]
) -> None:
    """Read one clip's streams side by side and add it to every system's metric."""
    truth = iter(clip.truth)
    context = _take(truth, protocol.context, clip.name, "ground truth", protocol)
    if len(context) < protocol.context:
        raise DataError(
            f"clip {clip.name}: ground truth has {len(context)} frames, but the evaluation "
            f"protocol says {protocol.context} context frames"
        )
    streams = {IMAGE_MODEL: [iter(sample) for sample in clip.samples]}
    if clip.oracle is not None:
        streams[ORACLE] = [iter(clip.oracle)]
    for system, sources in streams.items():
        for source in sources:
            _take(source, protocol.context, clip.name, system, protocol)

    measured = 0
    while True:
        n_wanted = min(_STEPS_AT_ONCE, protocol.horizon - measured)
        truth_P3HW = _take(truth, n_wanted, clip.name, "ground truth", protocol)
        n_steps = len(truth_P3HW)
        measured += n_steps
        last = n_steps < n_wanted or measured == protocol.horizon
        for system, sources in streams.items():
            taken = [_take(s, n_steps, clip.name, system, protocol) for s in sources]
            if any(len(frames) < n_steps for frames in taken):
                shortest = measured - n_steps + min(len(frames) for frames in taken)
                raise DataError(
                    f"clip {clip.name}: a video of the {system} ends after {shortest} predicted "
                    f"frames, but there is ground truth for more and the horizon is "
                    f"{protocol.horizon}; extract the videos again"
                )
            metrics[system].update(torch.stack(taken), truth_P3HW, last=last)
        metrics[COPY_LAST].update(context[-1].expand(1, *truth_P3HW.shape), truth_P3HW, last=last)
        if last:
            return


def _take(
    stream: Iterator[np.ndarray], count: int, clip: str, what: str, protocol: Protocol
) -> Tensor:
    """Up to `count` frames of a stream, stacked to (P, 3, H, W) uint8."""
    expected = (protocol.height, protocol.width, 3)
    frames = [np.asarray(frame) for frame in islice(stream, count)]
    for frame in frames:
        _check_shape(clip, f"frame of the {what} (H, W, 3)", frame.shape, expected)
    stacked = np.stack(frames) if frames else np.zeros((0, *expected), np.uint8)
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def _note_best(
    best: dict[str, dict[str, int]], metric: HorizonIoU | HorizonImageQuality, clip: str
) -> None:
    assert metric.last_clip is not None
    for name, sample in zip(metric.names, metric.last_clip.best, strict=True):
        best[name][clip] = sample


def _curves(system: str, metric: str, curve: HorizonCurve) -> list[Curve]:
    return [
        Curve(system, metric, MEAN, curve.mean, curve.clips),
        Curve(system, metric, BEST, curve.best, curve.clips),
    ]


def _check_shape(clip: str, what: str, found: Sequence[int], expected: Sequence[int]) -> None:
    if tuple(found) != tuple(expected):
        raise DataError(
            f"clip {clip}: {what} is {tuple(found)}, but the evaluation protocol says "
            f"{tuple(expected)}"
        )


def _check_count(n_clips: int, protocol: Protocol) -> None:
    if n_clips != protocol.n_clips:
        raise DataError(
            f"evaluation: {n_clips} clips were given, but the evaluation protocol says "
            f"{protocol.n_clips}"
        )
