"""Sample diversity against plain loops over pixels."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_jaccard_index

from hvp.errors import DataError
from hvp.metrics.diversity import HorizonDiversity, diversity

N_CLASSES = 5


def random_samples(seed: int, n_samples: int, n_steps: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (n_samples, n_steps, 6, 5)
    return rng.choice(N_CLASSES, size=shape, p=[0.6, 0.3, 0.08, 0.01, 0.01]).astype(np.uint8)


def by_loops(samples: np.ndarray) -> np.ndarray:
    steps = []
    for t in range(samples.shape[1]):
        scores = []
        for a, b in combinations(samples[:, t], 2):
            present = [c for c in range(N_CLASSES) if (a == c).any() or (b == c).any()]
            ious = [((a == c) & (b == c)).sum() / ((a == c) | (b == c)).sum() for c in present]
            scores.append(1 - np.mean(ious))
        steps.append(np.mean(scores))
    return np.array(steps)


def test_diversity_equals_plain_loops() -> None:
    samples = random_samples(0, 4, 7)
    samples[3, :, 0, 0] = 255  # no class
    found = diversity(torch.from_numpy(samples), N_CLASSES)
    np.testing.assert_allclose(found.numpy(), by_loops(samples), rtol=1e-12)


def test_a_pair_agrees_with_torchmetrics() -> None:
    # Its macro mean is over the classes present in either map, the definition here.
    samples = torch.from_numpy(random_samples(1, 2, 6))
    found = diversity(samples, N_CLASSES)
    for t in range(6):
        first, second = samples[:, t].long()
        expected = 1 - multiclass_jaccard_index(first, second, N_CLASSES, average="macro")
        torch.testing.assert_close(found[t].float(), expected)


def test_equal_samples_have_none_and_disjoint_ones_have_all() -> None:
    labels = torch.from_numpy(random_samples(2, 1, 3)).expand(3, -1, -1, -1)
    assert diversity(labels, N_CLASSES).tolist() == [0.0] * 3
    assert diversity(torch.arange(3).view(3, 1, 1, 1).expand(3, 2, 4, 4), 3).tolist() == [1.0] * 2


def test_curve_is_the_mean_over_clips_and_pieces_equal_the_whole() -> None:
    clips = [random_samples(3, 3, 6), random_samples(4, 5, 4)]
    whole, pieces = (HorizonDiversity(N_CLASSES, horizon=7) for _ in range(2))
    for clip in map(torch.from_numpy, clips):
        whole.update(clip)
        pieces.update(clip[:, :1], last=False)
        pieces.update(clip[:, 1:4], last=False)
        pieces.update(clip[:, 4:])
    first, second = (by_loops(clip) for clip in clips)
    expected = [*(first[:4] + second) / 2, *first[4:], np.nan]
    for metric in (whole, pieces):
        np.testing.assert_allclose(metric.compute().mean, expected, rtol=1e-12)
        assert metric.compute().clips.tolist() == [2, 2, 2, 2, 1, 1, 0]


def test_one_sample_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 sample\(s\) of a clip, expected at least 2"):
        HorizonDiversity(2, horizon=1).update(torch.zeros((1, 1, 2, 2), dtype=torch.uint8))
