import numpy as np
import pytest
import skimage.metrics
import torch

from hvp.errors import DataError
from hvp.metrics.image import HorizonImageQuality, psnr, ssim


def random_frames(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, 3, 16, 20), generator=generator, dtype=torch.uint8)


def disturbed(frames: torch.Tensor, seed: int, strength: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = strength * torch.randn(frames.shape, generator=generator)
    return (frames + noise).clamp(0, 255).to(torch.uint8)


def skimage_psnr(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    return skimage.metrics.peak_signal_noise_ratio(truth.numpy(), prediction.numpy())


def skimage_ssim(prediction: torch.Tensor, truth: torch.Tensor) -> float:
    return skimage.metrics.structural_similarity(
        prediction.numpy(),
        truth.numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def test_psnr_and_ssim_of_each_frame_agree_with_scikit_image() -> None:
    truth = random_frames(0, 5)
    prediction = disturbed(truth, 1, 40.0)
    pairs = list(zip(prediction, truth, strict=True))
    np.testing.assert_allclose(psnr(prediction, truth), [skimage_psnr(*p) for p in pairs])
    np.testing.assert_allclose(ssim(prediction, truth), [skimage_ssim(*p) for p in pairs], 1e-5)


def test_frames_smaller_than_the_window_of_ssim_are_refused() -> None:
    frames = torch.zeros((1, 3, 10, 20), dtype=torch.uint8)
    with pytest.raises(DataError, match=r"frames of \(10, 20\) pixels are smaller"):
        ssim(frames, frames)


def test_identical_frames_have_the_ceiling_not_infinity() -> None:
    truth = random_frames(0, 2)
    assert psnr(truth, truth).tolist() == [100.0, 100.0]
    assert psnr(truth, truth, ceiling=80.0).tolist() == [80.0, 80.0]


def naive_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004 on one channel, window by window within the frame."""
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    images = [image.astype(float) for image in (first, second)]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(first.shape[0] - 10):
        for x in range(first.shape[1] - 10):
            a, b = (image[y : y + 11, x : x + 11] for image in images)
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
        for name, function in (("psnr", skimage_psnr), ("ssim", skimage_ssim)):
            expected[name].append(
                [
                    [function(p, t) for p, t in zip(sample, truth, strict=False)]
                    for sample in samples
                ]
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
