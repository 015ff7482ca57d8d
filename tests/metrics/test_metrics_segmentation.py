import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchmetrics.utilities import dim_zero_sum

from hvp.errors import DataError
from hvp.metrics import segmentation
from hvp.metrics.segmentation import (
    HorizonIoU,
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from tests.helpers.segmentation_oracle import frame_class_iou, frame_miou, horizon_scores

N_CLASSES = 5


def random_labels(rng: np.random.Generator, *shape: int, ignore: float = 0.0) -> np.ndarray:
    # Classes of very different frequency, so that some are absent from some frames.
    labels = rng.choice(N_CLASSES, size=shape, p=[0.6, 0.3, 0.08, 0.01, 0.01]).astype(np.uint8)
    labels[rng.random(shape) < ignore] = 255
    return labels


def random_clips(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Clips whose ground truth ends before, at and after the horizon of 7, with ignored pixels."""
    clips = []
    for length in (7, 4, 9, 6):
        truth = random_labels(rng, length, 6, 5, ignore=0.2)
        samples = random_labels(rng, 3, 7, 6, 5)
        right = rng.random(samples.shape) < np.array([0.2, 0.6, 0.5])[:, None, None, None]
        shared = min(length, 7)
        truth_S = np.broadcast_to(truth[:shared], samples[:, :shared].shape)
        usable = right[:, :shared] & (truth_S != 255)
        samples[:, :shared][usable] = truth_S[usable]
        clips.append((samples, truth[:7]))
    clips[0][1][2] = 255  # a frame without any ground truth in the middle
    return clips


def measure(
    clips: list[tuple[np.ndarray, np.ndarray]], horizon: int = 7, pieces: int = 1
) -> HorizonIoU:
    metric = HorizonIoU(N_CLASSES, horizon)
    for samples, truth in clips:
        sample_pieces = np.array_split(samples, pieces, axis=1)
        ends = np.cumsum([piece.shape[1] for piece in sample_pieces])
        for piece, end in zip(sample_pieces, ends, strict=True):
            metric.update(
                torch.from_numpy(piece.copy()),
                torch.from_numpy(truth[end - piece.shape[1] : end].copy()),
                last=bool(end == ends[-1]),
            )
    return metric


def assert_same(first: HorizonIoU, second: HorizonIoU) -> None:
    ours, theirs = first.compute(), second.compute()
    for a, b in zip(ours.miou + ours.pixel_accuracy, theirs.miou + theirs.pixel_accuracy,
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-14)
    np.testing.assert_array_equal(ours.class_iou, theirs.class_iou)
    for a, b in zip(ours.class_curves, theirs.class_curves, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)


def test_class_iou_agrees_with_torchmetrics_where_the_class_is_present() -> None:
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(random_labels(rng, 8, 12, 10, ignore=0.1))
    prediction = torch.from_numpy(random_labels(rng, 8, 12, 10))
    ours = class_iou(confusion_matrix(prediction, truth, N_CLASSES))
    for n in range(8):
        theirs = multiclass_jaccard_index(
            prediction[n].long(), truth[n].long(), N_CLASSES, average="none", ignore_index=255
        )
        present = torch.tensor([bool((truth[n] == c).any()) for c in range(N_CLASSES)])
        assert torch.equal(~ours[n].isnan(), present)
        torch.testing.assert_close(ours[n][present].float(), theirs[present])
        torch.testing.assert_close(
            mean_iou(confusion_matrix(prediction[n : n + 1], truth[n : n + 1], N_CLASSES))[0],
            theirs[present].double().mean(),
            rtol=1e-6,
            atol=0,
        )


def test_curves_equal_plain_loops() -> None:
    clips = random_clips(np.random.default_rng(1))
    scores = measure(clips).compute()
    expected = horizon_scores(clips, 7)
    np.testing.assert_allclose(scores.miou.mean, expected["miou_mean"], rtol=1e-12)
    np.testing.assert_allclose(scores.miou.best, expected["miou_best"], rtol=1e-12)
    np.testing.assert_allclose(scores.pixel_accuracy.mean, expected["accuracy_mean"], rtol=1e-12)
    np.testing.assert_allclose(scores.pixel_accuracy.best, expected["accuracy_best"], rtol=1e-12)
    np.testing.assert_array_equal(scores.miou.clips, expected["clips"])
    assert scores.miou.clips.tolist() == [4, 4, 3, 4, 3, 3, 2]


def test_class_curves_are_over_the_frames_that_have_the_class() -> None:
    clips = random_clips(np.random.default_rng(6))
    for _, truth in clips:
        truth[1:3][truth[1:3] == 2] = 0  # class 2 is absent at two steps of all clips
    metric = measure(clips)
    curves = metric.compute().class_curves
    assert len(curves) == N_CLASSES
    for label, curve in enumerate(curves):
        mean, best = ([[] for _ in range(7)] for _ in range(2))
        for samples, truth in clips:
            steps = range(min(len(truth), samples.shape[1]))
            miou = [[frame_miou(s[t], truth[t]) for t in steps] for s in samples]
            chosen = max(range(len(samples)), key=lambda s: float(np.nanmean(miou[s])))
            for t in steps:
                ious = [frame_class_iou(s[t], truth[t], label) for s in samples]
                if not np.isnan(ious[0]):
                    mean[t].append(np.mean(ious))
                    best[t].append(ious[chosen])
        assert curve.clips.tolist() == [len(values) for values in mean]
        for found, expected in ((curve.mean, mean), (curve.best, best)):
            means = [np.mean(values) if values else np.nan for values in expected]
            np.testing.assert_allclose(found, means, rtol=1e-12)
    assert curves[2].clips[1:3].tolist() == [0, 0]


def test_data_set_iou_is_that_of_all_pixels_together() -> None:
    clips = random_clips(np.random.default_rng(2))
    pairs = [
        (sample[: len(truth)].ravel(), truth.ravel()) for samples, truth in clips
        for sample in samples
    ]  # fmt: skip
    prediction, truth = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    theirs = multiclass_jaccard_index(
        torch.from_numpy(prediction).long(),
        torch.from_numpy(truth).long(),
        N_CLASSES,
        average="none",
        ignore_index=255,
    )
    np.testing.assert_allclose(measure(clips).compute().class_iou, theirs.numpy(), rtol=1e-6)


def test_pieces_of_a_clip_equal_the_whole_clip() -> None:
    clips = random_clips(np.random.default_rng(3))
    assert_same(measure(clips), measure(clips, pieces=3))


def test_bounded_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = random_clips(np.random.default_rng(4))
    whole = measure(clips)
    monkeypatch.setattr(segmentation, "_PIXELS_PER_CHUNK", 2 * 3 * 6 * 5)  # two steps of 3 samples
    assert_same(whole, measure(clips))


def test_adding_the_states_of_two_processes_equals_one_process() -> None:
    clips = random_clips(np.random.default_rng(5))
    whole, first, second = measure(clips), measure(clips[:1]), measure(clips[1:])
    assert set(first._reductions.values()) == {dim_zero_sum}
    for name in first.metric_state:
        setattr(first, name, getattr(first, name) + getattr(second, name))
    first._computed = None
    assert_same(whole, first)


def test_best_sample_is_one_future_per_clip_chosen_by_miou() -> None:
    # Sample 0 has the higher accuracy (2 errors of 32), sample 1 the higher mIoU (3 errors, but it
    # always finds the rare class); a best per step would take sample 0's perfect first step.
    truth = torch.zeros((2, 2, 8), dtype=torch.uint8)
    truth[:, 0, :2] = 1
    samples = truth.repeat(2, 1, 1, 1)
    samples[0, 1] = 0
    samples[1, 0, 1, 0] = 1
    samples[1, 1, 1, :2] = 1
    metric = HorizonIoU(2, horizon=2)
    metric.update(samples, truth)
    scores = metric.compute()
    assert metric.last_clip is not None
    assert set(metric.last_clip.best) == {1}
    np.testing.assert_allclose(scores.pixel_accuracy.best, [15 / 16, 14 / 16])
    np.testing.assert_allclose(scores.pixel_accuracy.mean, [(1 + 15 / 16) / 2, 14 / 16])
    np.testing.assert_allclose(scores.miou.best, [(2 / 3 + 13 / 14) / 2, (2 / 4 + 12 / 14) / 2])


def test_ignored_prediction_is_wrong_but_no_class_s_false_positive() -> None:
    truth = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 255, 1, 1]]], dtype=torch.uint8)
    confusion = confusion_matrix(prediction, truth, 2)
    assert class_iou(confusion).tolist() == [[0.5, 1.0]]
    assert pixel_accuracy(confusion).tolist() == [0.75]


def test_no_ground_truth_at_all_gives_nan_and_no_clips() -> None:
    metric = HorizonIoU(2, horizon=3)
    metric.update(torch.zeros((2, 3, 4, 4), dtype=torch.uint8),
                  torch.zeros((0, 4, 4), dtype=torch.uint8))  # fmt: skip
    scores = metric.compute()
    assert np.isnan(scores.miou.mean).all()
    assert scores.miou.clips.tolist() == [0, 0, 0]


def test_a_horizon_of_one_step_is_still_a_curve() -> None:
    labels = torch.zeros((1, 1, 4, 4), dtype=torch.uint8)
    metric = HorizonIoU(2, horizon=1)
    metric.update(labels, labels[0])
    assert metric.compute().miou.mean.tolist() == [1.0]


def test_reset_forgets_an_unfinished_clip() -> None:
    labels = torch.zeros((1, 2, 4, 4), dtype=torch.uint8)
    metric = HorizonIoU(2, horizon=2)
    metric.update(labels, labels[0], last=False)
    metric.reset()
    metric.update(1 - labels, labels[0])
    assert metric.compute().miou.mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["prediction", "ground truth"])
def test_unknown_label_id_is_refused_by_name(name: str) -> None:
    maps = {
        "prediction": torch.zeros((1, 2, 2), dtype=torch.uint8),
        "ground truth": torch.zeros((1, 2, 2), dtype=torch.uint8),
    }
    maps[name][0, 0, 0] = 7
    with pytest.raises(DataError, match=f"{name}: label id 7 is outside 0..4"):
        confusion_matrix(maps["prediction"], maps["ground truth"], N_CLASSES)


def test_clip_longer_than_the_horizon_is_refused() -> None:
    labels = torch.zeros((1, 3, 4, 4), dtype=torch.uint8)
    with pytest.raises(DataError, match="3 scored steps but the horizon is 2"):
        HorizonIoU(2, horizon=2).update(labels, labels[0])
