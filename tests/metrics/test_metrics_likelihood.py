"""Mean NLL and KL per step over clips of different lengths."""

import numpy as np
import pytest
import torch

from hvp.errors import DataError
from hvp.metrics.likelihood import HorizonLikelihood


def test_every_clip_counts_the_same_whatever_batch_it_came_in() -> None:
    rng = np.random.default_rng(0)
    nll, kl = rng.random((2, 5, 4)).astype(np.float32)
    nll[1, 2] = np.nan  # a frame without ground truth: its KL counts nothing either
    metric = HorizonLikelihood(horizon=6)
    for rows in (slice(0, 3), slice(3, 4), slice(4, 5)):
        metric.update(torch.from_numpy(nll[rows].copy()), torch.from_numpy(kl[rows].copy()))
    scores = metric.compute()
    kl[1, 2] = np.nan
    np.testing.assert_allclose(scores.nll[:4], np.nanmean(nll.astype(np.float64), 0), rtol=1e-12)
    np.testing.assert_allclose(scores.kl[:4], np.nanmean(kl.astype(np.float64), 0), rtol=1e-12)
    assert np.isnan(scores.nll[4:]).all()
    assert scores.clips.tolist() == [5, 5, 4, 5, 0, 0]


def test_values_that_spoil_a_mean_are_refused() -> None:
    metric = HorizonLikelihood(horizon=2)
    ones = torch.ones(1, 2)
    with pytest.raises(DataError, match="3 steps but the horizon is 2"):
        metric.update(torch.ones(1, 3), torch.ones(1, 3))
    with pytest.raises(DataError, match="a value is infinite"):
        metric.update(ones, ones * torch.inf)
    with pytest.raises(DataError, match=r"nll \(1, 2\) and kl \(2,\)"):
        metric.update(ones, ones[0])
