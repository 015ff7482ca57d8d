import numpy as np
import pytest
import torch
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from hvp.metrics.image import HorizonImageQuality, psnr, ssim


def random_frames(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3, 16, 20), generator=generator, dtype=torch.uint8)


def disturbed(frames: torch.Tensor, seed: int, strength: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = strength * torch.randn(frames.shape, generator=generator)
    return (frames + noise).clamp(0, 255).to(torch.uint8)


def test_psnr_of_each_frame_agrees_with_torchmetrics() -> None:
    truth = random_frames(0, 5)
    prediction = disturbed(truth, 1, 30.0)
    theirs = peak_signal_noise_ratio(
        prediction.double(), truth.double(), data_range=255.0, dim=(1, 2, 3), reduction="none"
    )
    torch.testing.assert_close(psnr(prediction, truth), theirs, rtol=1e-6, atol=0)


def test_identical_frames_have_the_ceiling_not_infinity() -> None:
    truth = random_frames(0, 2)
    assert psnr(truth, truth).tolist() == [100.0, 100.0]
    assert psnr(truth, truth, ceiling=80.0).tolist() == [80.0, 80.0]


def naive_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004 on one channel, window by window, borders reflected."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    padded = [np.pad(image.astype(float), 5, mode="reflect") for image in (first, second)]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(first.shape[0]):
        for x in range(first.shape[1]):
            a, b = (image[y : y + 11, x : x + 11] for image in padded)
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a = (weights * (a - mean_a) ** 2).sum()
            var_b = (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )  # fmt: skip
    return float(np.mean(values))


def test_ssim_of_each_frame_agrees_with_its_definition() -> None:
    truth = random_frames(2, 2)
    prediction = disturbed(truth, 3, 40.0)
    expected = [
        np.mean([naive_ssim(p.numpy(), t.numpy()) for p, t in zip(*pair, strict=True)])
        for pair in zip(prediction, truth, strict=True)
    ]
    np.testing.assert_allclose(ssim(prediction, truth), expected, rtol=1e-4)


def clips() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Three samples per clip; ground truth of 5, 3 and 5 of 5 steps."""
    result = []
    for seed, length in enumerate((5, 3, 5)):
        truth = random_frames(seed, 5)
        strengths = np.roll([50.0, 20.0, 35.0], seed)
        samples = torch.stack([disturbed(truth, 10 + k, s) for k, s in enumerate(strengths)])
        result.append((samples, truth[:length]))
    return result


def measure(
    some_clips: list[tuple[torch.Tensor, torch.Tensor]], at_once: int = 5
) -> HorizonImageQuality:
    metric = HorizonImageQuality(horizon=5)
    for samples, truth in some_clips:
        for first in range(0, 5, at_once):
            steps = slice(first, first + at_once)
            metric.update(samples[:, steps], truth[steps], last=first + at_once >= 5)
    return metric


def assert_same(first: HorizonImageQuality, second: HorizonImageQuality) -> None:
    ours, theirs = first.compute(), second.compute()
    for a, b in zip(ours.psnr + ours.ssim, theirs.psnr + theirs.ssim, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_mean_and_best_curves_equal_plain_averages() -> None:
    expected: dict[str, list[list[list[float]]]] = {"psnr": [], "ssim": []}
    for samples, truth in clips():
        pairs = [
            [(p[None].double(), t[None].double()) for p, t in zip(sample, truth, strict=False)]
            for sample in samples
        ]
        for name, function in (
            ("psnr", peak_signal_noise_ratio),
            ("ssim", structural_similarity_index_measure),
        ):
            expected[name].append(
                [[function(p, t, data_range=255.0).item() for p, t in row] for row in pairs]  # type: ignore[union-attr]
            )
    scores = measure(clips()).compute()
    for name, curve in (("psnr", scores.psnr), ("ssim", scores.ssim)):
        for t in range(5):
            here = [np.array(clip) for clip in expected[name] if len(clip[0]) > t]
            best = [clip[clip.mean(axis=1).argmax(), t] for clip in here]
            np.testing.assert_allclose(
                curve.mean[t], np.mean([c[:, t].mean() for c in here]), rtol=1e-4
            )
            np.testing.assert_allclose(curve.best[t], np.mean(best), rtol=1e-4)
        assert curve.clips.tolist() == [3, 3, 3, 2, 2]
        assert (curve.best > curve.mean).all()


def test_each_metric_chooses_its_own_best_sample() -> None:
    # A constant shift keeps the structure (high SSIM) at a large error (low PSNR).
    truth = (random_frames(0, 2) // 2).to(torch.uint8)
    samples = torch.stack((truth + 60, disturbed(truth, 1, 45.0)))
    metric = HorizonImageQuality(horizon=2)
    metric.update(samples, truth)
    assert metric.last_clip is not None
    assert metric.last_clip.best == (1, 0)


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_pieces_of_a_clip_equal_the_whole_clip(at_once: int) -> None:
    assert_same(measure(clips()), measure(clips(), at_once))


def test_merging_the_states_of_two_processes_equals_one_process() -> None:
    first, second = measure(clips()[:2]), measure(clips()[2:])
    first.merge_state(second)
    first._computed = None
    assert_same(measure(clips()), first)


def test_steps_behind_all_ground_truth_are_nan() -> None:
    metric = HorizonImageQuality(horizon=4)
    samples, truth = clips()[1]
    metric.update(samples[:, :4], truth)
    scores = metric.compute()
    assert np.isfinite(scores.psnr.mean[:3]).all()
    assert np.isnan([scores.psnr.mean[3], scores.psnr.best[3], scores.ssim.mean[3]]).all()
