"""Fréchet distance against scipy's general matrix square root and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from hvp.errors import DataError
from hvp.metrics.frechet import (
    FeatureNetwork,
    FrechetMetric,
    feature_distance,
    frechet_distance,
    gaussian,
)


class Plain(FrechetMetric):
    """The base with the simplest update: the items are their own features."""

    def update(self, items: Tensor, real: bool, group: int = 0) -> None:
        if real:
            self._add_real(items)
        else:
            self._add_generated(items, [group] * len(items))

    def compute(self) -> Tensor:
        return self._distances()


def identity(n_features: int) -> FeatureNetwork:
    return FeatureNetwork(lambda items: items, n_features, "identity")


def features(seed: int, count: int, n_features: int, shift: float = 0.0) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    mix = torch.randn(n_features, n_features, generator=dice, dtype=torch.float64)
    return torch.randn(count, n_features, generator=dice, dtype=torch.float64) @ mix + shift


def by_scipy(real: Tensor, generated: Tensor) -> float:
    """The textbook formula on numpy's covariance."""
    a, b = real.numpy(), generated.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    offset = a.mean(0) - b.mean(0)
    return float(offset @ offset + np.trace(cov_a + cov_b - 2 * root))


@pytest.mark.parametrize("count", [30, 500])
def test_distance_agrees_with_scipy(count: int) -> None:
    real, generated = features(0, count, 12), features(1, 400, 12, shift=0.3)
    ours = feature_distance(real, generated, identity(12), batch_size=7)
    assert ours.dtype == torch.float64
    assert ours.item() == pytest.approx(by_scipy(real, generated), rel=1e-9)


def test_closed_form_of_commuting_covariances() -> None:
    # One basis: the distance is that of the square roots of the variances.
    basis, _ = torch.linalg.qr(features(2, 6, 6))
    variances_a = torch.tensor([4.0, 1.0, 9.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    variances_b = torch.tensor([1.0, 1.0, 4.0, 3.0, 0.0, 5.0], dtype=torch.float64)
    covs = [basis @ torch.diag(v) @ basis.T for v in (variances_a, variances_b)]
    mean = torch.zeros(6, dtype=torch.float64)
    expected = 6 * 0.5**2 + (variances_a.sqrt() - variances_b.sqrt()).square().sum()
    found = frechet_distance(mean, covs[0], mean + 0.5, covs[1])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_equal_sets_have_distance_zero_even_with_fewer_items_than_features() -> None:
    real = features(3, 5, 40, shift=10.0)
    scale = real.var(dim=0).sum().item()
    assert feature_distance(real, real.flip(0), identity(40), 8).item() < 1e-10 * scale


def test_distance_of_singular_covariances_agrees_with_their_low_rank_form() -> None:
    # trace((cov_a cov_b)^(1/2)) is the nuclear norm of the product of the centred features.
    real, generated = features(4, 6, 50), features(5, 9, 50, shift=0.2)
    centred = [x - x.mean(0) for x in (real, generated)]
    cross = torch.linalg.svdvals(centred[0] @ centred[1].T).sum() / (5 * 8) ** 0.5
    expected = (
        (real.mean(0) - generated.mean(0)).square().sum()
        + real.var(0).sum()
        + generated.var(0).sum()
        - 2 * cross
    )
    found = feature_distance(real, generated, identity(50), 8)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_streamed_moments_are_numpy_s() -> None:
    metric = Plain(identity(5))
    everything = features(6, 37, 5, shift=3.0)
    for part in everything.split(10):
        metric.update(part, real=True)
    mean, cov = gaussian(metric.real_count, metric.real_sum, metric.real_outer)
    np.testing.assert_allclose(mean, everything.numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(everything.numpy(), rowvar=False), rtol=1e-9)


def test_groups_are_compared_one_by_one() -> None:
    metric = Plain(identity(3), n_groups=3)
    real, first, third = features(7, 20, 3), features(8, 25, 3), features(9, 30, 3, shift=1.0)
    metric.update(first, real=False, group=0)
    metric.update(real, real=True)
    metric.update(third, real=False, group=2)
    distances = metric.compute()
    assert distances[0].item() == pytest.approx(by_scipy(real, first), rel=1e-9)
    assert distances[1].isnan()
    assert distances[2].item() == pytest.approx(by_scipy(real, third), rel=1e-9)


def test_real_items_of_another_metric_are_taken_over() -> None:
    real, generated = features(10, 20, 3), features(11, 20, 3)
    first, second = Plain(identity(3)), Plain(identity(3))
    first.update(real, real=True)
    second.update(generated, real=False)
    second.copy_real(first)
    first.update(real, real=True)  # no longer seen by the other
    assert second.compute().item() == pytest.approx(by_scipy(real, generated), rel=1e-9)
    other = Plain(FeatureNetwork(lambda items: items, 3, "another network"))
    with pytest.raises(DataError, match="real features of identity cannot be compared"):
        other.copy_real(first)


def test_states_are_sums_in_float64_that_do_not_grow() -> None:
    metric = Plain(identity(4))
    sizes = []
    for seed in range(3):
        metric.update(features(seed, 50, 4).float(), real=seed == 0)
        states = [getattr(metric, name) for name in metric._defaults]
        assert {state.dtype for state in states} == {torch.float64, torch.int64}
        sizes.append(sum(state.numel() for state in states))
    assert len(set(sizes)) == 1


def test_a_set_of_one_item_is_refused() -> None:
    with pytest.raises(DataError, match="1 items in a set"):
        feature_distance(features(0, 1, 3), features(1, 5, 3), identity(3), 4)


def test_features_of_another_width_are_refused() -> None:
    with pytest.raises(DataError, match=r"gave features \(5, 3\) for 5 items, expected \(5, 4\)"):
        identity(4)(features(0, 5, 3))


def test_network_stays_in_eval_mode_inside_a_training_module() -> None:
    network = FeatureNetwork(torch.nn.BatchNorm1d(3), 3, "normalisation")
    torch.nn.Sequential(network).train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
