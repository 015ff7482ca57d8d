from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from hvp.errors import ConfigError, DataError
from hvp.evaluation.curves import BEST, MEAN
from hvp.evaluation.image_measures import ImageLikeness
from hvp.evaluation.label_measures import LabelAgreement
from hvp.evaluation.measure import Setup
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Result
from hvp.evaluation.runner import run_measures
from hvp.evaluation.streams import Clip, Stream
from hvp.evaluation.systems import COPY_LAST, IMAGE_MODEL, ORACLE, STRUCTURE_MODEL
from hvp.labels import LabelSpace
from hvp.metrics.image import psnr, ssim
from tests.helpers.segmentation_oracle import horizon_scores

SPACE = LabelSpace("three", ("road", "car", "sky"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
CONTEXT, HORIZON = 2, 6
PROTOCOL = Protocol(
    dataset="toy",
    split="test",
    height=12,
    width=14,
    frame_step=1,
    n_clips=3,
    n_samples=2,
    context=CONTEXT,
    horizon=HORIZON,
    trained_horizon=4,
    seed=0,
)

LabelClips = list[tuple[str, np.ndarray, np.ndarray]]


def evaluate_structure(clips: LabelClips, protocol: Protocol, space: LabelSpace) -> Result:
    videos = [
        Clip(name, iter(truth), {STRUCTURE_MODEL: [iter(s) for s in samples]})
        for name, samples, truth in clips
    ]
    (result,) = run_measures(videos, protocol, [LabelAgreement(Setup(protocol, space))])
    return result


def evaluate_images(clips: list[Clip], protocol: Protocol) -> Result:
    (result,) = run_measures(clips, protocol, [ImageLikeness(Setup(protocol, SPACE))])
    return result


def image_clip(
    name: str, truth: Stream, samples: Sequence[Stream], oracle: Stream | None = None
) -> Clip:
    systems = {IMAGE_MODEL: samples}
    return Clip(name, truth, systems if oracle is None else systems | {ORACLE: [oracle]})


def label_clips() -> LabelClips:
    """Ground truth of 6 (the horizon), 3 and more than 6 predicted steps."""
    rng = np.random.default_rng(0)
    clips = []
    for name, length in (("a", 8), ("b", 5), ("c", 11)):
        truth = rng.integers(0, 3, (length, 12, 14), dtype=np.uint8)
        truth[rng.random(truth.shape) < 0.1] = 255
        samples = rng.integers(0, 3, (2, 9, 12, 14), dtype=np.uint8)
        shared = min(length, 9)
        right = rng.random((2, shared, 12, 14)) < np.array([0.3, 0.5])[:, None, None, None]
        right &= truth[:shared] != 255
        samples[:, :shared][right] = np.broadcast_to(truth[:shared], right.shape)[right]
        clips.append((name, samples, truth))
    return clips


def values(result: Result, system: str, metric: str, aggregate: str) -> np.ndarray:
    curve = result.curve(system, metric, aggregate)
    assert curve is not None
    return curve.values


def test_structure_curves_leave_out_the_context_and_stop_with_the_ground_truth() -> None:
    clips = label_clips()
    result = evaluate_structure(clips, PROTOCOL, SPACE)
    end = CONTEXT + HORIZON
    predicted = [(samples[:, CONTEXT:end], truth[CONTEXT:end]) for _, samples, truth in clips]
    copied = [
        (np.repeat(truth[CONTEXT - 1 : CONTEXT], HORIZON, axis=0)[None], truth[CONTEXT:end])
        for _, _, truth in clips
    ]
    for system, pairs in ((STRUCTURE_MODEL, predicted), (COPY_LAST, copied)):
        expected = horizon_scores(pairs, HORIZON)
        for metric, name in (("miou", "miou"), ("pixel_accuracy", "accuracy")):
            np.testing.assert_allclose(
                values(result, system, metric, MEAN), expected[f"{name}_mean"], rtol=1e-12
            )
            np.testing.assert_allclose(
                values(result, system, metric, BEST), expected[f"{name}_best"], rtol=1e-12
            )
        curve = result.curve(system, "miou", MEAN)
        assert curve is not None
        assert curve.clips.tolist() == [3, 3, 3, 2, 2, 2]
    assert result.best_samples["miou"] == {"a": 1, "b": 1, "c": 1}
    assert set(result.class_scores["iou"][STRUCTURE_MODEL]) == {"road", "car", "sky"}
    curves = [c for c in result.class_curves if (c.system, c.aggregate) == (COPY_LAST, MEAN)]
    assert [curve.class_name for curve in curves] == ["road", "car", "sky"]
    assert curves[0].clips.tolist() == [3, 3, 3, 2, 2, 2]


def test_perfect_prediction_scores_one_where_copying_does_not() -> None:
    clips = [
        (name, np.repeat(np.where(truth == 255, 0, truth)[None], 2, axis=0).astype(np.uint8), truth)
        for name, _, truth in label_clips()
        if len(truth) >= CONTEXT + HORIZON
    ]
    result = evaluate_structure(clips, replace(PROTOCOL, n_clips=2), SPACE)
    assert values(result, STRUCTURE_MODEL, "miou", MEAN).tolist() == [1.0] * HORIZON
    assert (values(result, COPY_LAST, "miou", MEAN) < 0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_clips": 4}, "3 clips were given, but the evaluation protocol says 4"),
        ({"n_samples": 3}, "clip a: 2 samples of the structure model, but the eval"),
        ({"horizon": 11}, "clip c: a video of the structure model ends after 7 predicted frames"),
        ({"height": 16}, r"clip a: frame of the ground truth is \(12, 14\), .* says \(16, 14\)"),
    ],
)
def test_clips_that_are_not_what_the_protocol_says_are_refused(
    change: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_structure(label_clips(), Protocol.from_dict(PROTOCOL.to_dict() | change), SPACE)


def test_ground_truth_shorter_than_the_context_is_refused() -> None:
    name, samples, truth = label_clips()[0]
    with pytest.raises(DataError, match=r"clip a: ground truth has 1 frames, .* says 2 context"):
        evaluate_structure([(name, samples, truth[:1])], PROTOCOL, SPACE)


def test_unknown_label_id_names_the_clip() -> None:
    clips = label_clips()
    clips[1][1][0, 3] = 9
    with pytest.raises(DataError, match="clip b: prediction: label id 9"):
        evaluate_structure(clips, PROTOCOL, SPACE)


def test_protocol_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="horizon is 0"):
        replace(PROTOCOL, horizon=0)


IMAGE_PROTOCOL = replace(PROTOCOL, n_clips=2, horizon=40)


def rgb(seed: int, length: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (length, 12, 14, 3), dtype=np.uint8)


def noisy(frames: np.ndarray, seed: int, strength: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def image_streams() -> list[tuple[str, np.ndarray, list[np.ndarray], np.ndarray]]:
    """Two clips: ground truth beyond the horizon, and ground truth of 33 predicted steps."""
    streams = []
    for seed, (name, length) in enumerate((("a", 50), ("b", 35))):
        truth = rgb(seed, length)
        full = np.concatenate((truth, rgb(9, 50)))[: CONTEXT + 40]
        samples = [noisy(full, 10 + seed, 40), noisy(full, 20 + seed, 20)]
        streams.append((name, truth, samples, noisy(truth, 30 + seed, 10)))
    return streams


def image_clips(oracle: bool = True) -> list[Clip]:
    return [
        image_clip(name, iter(truth), [iter(s) for s in samples], iter(own) if oracle else None)
        for name, truth, samples, own in image_streams()
    ]


def test_image_curves_equal_frame_by_frame_scores() -> None:
    result = evaluate_images(image_clips(), IMAGE_PROTOCOL)

    def score(function: object, video: np.ndarray, truth: np.ndarray) -> np.ndarray:
        pair = (torch.from_numpy(v.copy()).permute(0, 3, 1, 2) for v in (video, truth))
        return function(*pair).numpy()  # type: ignore[operator]

    for metric, function in (("psnr", psnr), ("ssim", ssim)):
        per_system: dict[tuple[str, str], list[np.ndarray]] = {}
        for _, truth, samples, own in image_streams():
            truth = truth[: CONTEXT + 40]
            last = np.broadcast_to(truth[CONTEXT - 1], truth.shape)
            scores = {
                IMAGE_MODEL: [score(function, s[: len(truth)], truth) for s in samples],
                COPY_LAST: [score(function, last, truth)],
                ORACLE: [score(function, own[: len(truth)], truth)],
            }
            for system, per_sample in scores.items():
                stacked = np.stack(per_sample)[:, CONTEXT:]
                best = stacked[stacked.mean(axis=1).argmax()]
                per_system.setdefault((system, MEAN), []).append(stacked.mean(axis=0))
                per_system.setdefault((system, BEST), []).append(best)
        assert {(c.system, c.aggregate) for c in result.curves} == set(per_system)
        for (system, aggregate), clips in per_system.items():
            expected = [np.mean([clip[t] for clip in clips if len(clip) > t]) for t in range(40)]
            np.testing.assert_allclose(
                values(result, system, metric, aggregate), expected, rtol=1e-5
            )
    curve = result.curve(IMAGE_MODEL, "psnr", MEAN)
    assert curve is not None
    assert curve.clips.tolist() == [2] * 33 + [1] * 7
    assert result.best_samples == {"psnr": {"a": 1, "b": 1}, "ssim": {"a": 1, "b": 1}}


def test_oracle_may_be_left_out() -> None:
    result = evaluate_images(image_clips(oracle=False), IMAGE_PROTOCOL)
    assert {curve.system for curve in result.curves} == {IMAGE_MODEL, COPY_LAST}


def test_oracle_for_some_clips_only_is_refused() -> None:
    mixed = [image_clips(oracle=True)[0], image_clips(oracle=False)[1]]
    with pytest.raises(DataError, match="clip b: has videos of image model, unlike"):
        evaluate_images(mixed, IMAGE_PROTOCOL)


def test_video_shorter_than_its_ground_truth_is_refused() -> None:
    name, truth, samples, _ = image_streams()[0]
    clip = image_clip(name, truth, [samples[0], samples[1][:20]])
    with pytest.raises(DataError, match="clip a: a video of the image model ends after 18 pred"):
        evaluate_images([clip], replace(IMAGE_PROTOCOL, n_clips=1))


def test_streams_are_read_no_further_than_the_ground_truth() -> None:
    taken = [0, 0]

    def endless(index: int) -> Iterator[np.ndarray]:
        while True:
            taken[index] += 1
            yield np.zeros((12, 14, 3), np.uint8)

    clip = image_clip("a", rgb(0, 7), [endless(0), endless(1)])
    result = evaluate_images([clip], replace(IMAGE_PROTOCOL, n_clips=1, horizon=10_000))
    assert taken == [7, 7]
    assert np.isfinite(values(result, IMAGE_MODEL, "psnr", MEAN)).tolist() == [True] * 5


def test_wrong_frame_layout_is_refused() -> None:
    name, truth, samples, _ = image_streams()[0]
    clip = image_clip(name, truth.transpose(0, 3, 1, 2), samples)
    with pytest.raises(DataError, match=r"frame of the ground truth is \(3, 12, 14\)"):
        evaluate_images([clip], IMAGE_PROTOCOL)
