"""Fréchet distance between two sets of features, from streaming float64 moments.

Shapes: N items (images or windows of video), D features, G groups of generated items.

The features of a set are summarised as a Gaussian; the distance between two Gaussians is

    |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2))

(Fréchet 1957, Dowson & Landau 1982; for images Heusel et al., "GANs Trained by a Two Time-Scale
Update Rule", NeurIPS 2017; for video Unterthiner et al. 2018). It is biased upwards when a set
is small, strongly so below some thousands of items: compare only numbers with equal counts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from hvp.errors import DataError
from hvp.precision import without_autocast


class FeatureNetwork(nn.Module):
    """Frozen feature extractor: D features per item; stays in eval mode.

    Args:
        network: maps items (N, ...) to features (N, D).
        n_features: D.
        description: network name and weights digest, for the evaluation protocol.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], n_features: int, description: str
    ) -> None:
        super().__init__()
        self.network = network
        self.n_features = n_features
        self.description = description
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        """Stay in eval mode, also when a module around it is set to train."""
        return super().train(False)

    @without_autocast
    @torch.no_grad()
    def forward(self, items: Tensor) -> Tensor:
        """Features (N, D) float64 of the items.

        Raises:
            DataError: the network gives something else.
        """
        features_ND: Tensor = self.network(items)
        if features_ND.shape != (len(items), self.n_features):
            raise DataError(
                f"{self.description}: gave features {tuple(features_ND.shape)} for {len(items)} "
                f"items, expected {(len(items), self.n_features)}; check the weights file"
            )
        return features_ND.double()


def gaussian(count: Tensor, sum_D: Tensor, outer_DD: Tensor) -> tuple[Tensor, Tensor]:
    """Gaussian fit: mean (D,) and unbiased covariance (D, D), float64, from streaming sums.

    Args:
        count: number of items, at least 2.
        sum_D: float64 sum of the features.
        outer_DD: float64 sum of the outer products of the features.

    Raises:
        DataError: fewer than 2 items.

    Example:
        >>> features = torch.tensor([[0.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
        >>> gaussian(torch.tensor(2), features.sum(0), features.T @ features)[1]
        tensor([[2., 0.],
                [0., 0.]], dtype=torch.float64)
    """
    if count < 2:
        raise DataError(
            f"Fréchet distance: {int(count)} items in a set, but a covariance needs at least 2; "
            "give more or longer videos"
        )
    mean_D = sum_D / count
    return mean_D, (outer_DD - count * torch.outer(mean_D, mean_D)) / (count - 1)


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Squared Fréchet (2-Wasserstein) distance between two Gaussians.

    The trace of (cov_a cov_b)^(1/2) is the sum of the singular values of cov_a^(1/2) cov_b^(1/2),
    with symmetric square roots; unlike a general matrix square root this is exact for singular
    covariances (fewer items than features) and never complex.

    Args:
        mean_a: float64 (D,).
        cov_a: float64 (D, D), symmetric and positive semi-definite.
        mean_b: float64 (D,).
        cov_b: float64 (D, D), likewise.

    Returns:
        float64 scalar, at least 0.

    Example:
        >>> eye = torch.eye(3, dtype=torch.float64)
        >>> round(frechet_distance(torch.zeros(3), eye, torch.ones(3), 4 * eye).item(), 9)
        6.0
    """
    offset = (mean_a - mean_b).square().sum()
    cross = torch.linalg.svdvals(_matrix_sqrt(cov_a) @ _matrix_sqrt(cov_b)).sum()
    return (offset + cov_a.trace() + cov_b.trace() - 2.0 * cross).clamp(min=0.0)


def _matrix_sqrt(cov_DD: Tensor) -> Tensor:
    """Symmetric matrix square root; eigenvalues at rounding level count as 0."""
    values_D, vectors_DD = torch.linalg.eigh((cov_DD + cov_DD.T) / 2)
    smallest = values_D.max() * len(values_D) * torch.finfo(values_D.dtype).eps
    roots_D = torch.where(values_D > smallest, values_D, 0.0).sqrt()
    return (vectors_DD * roots_D) @ vectors_DD.T


def feature_distance(
    real: Tensor, generated: Tensor, network: FeatureNetwork, batch_size: int
) -> Tensor:
    """Fréchet distance (float64 scalar) between the features of two sets of items (N, ...).

    Args:
        real: real items, at least 2.
        generated: generated items; the N of both may differ.
        network: feature extractor.
        batch_size: items per forward pass.

    Raises:
        DataError: a set has fewer than 2 items.
    """
    gaussians: list[Tensor] = []
    for items in (real, generated):
        features_ND = torch.cat([network(part) for part in items.split(batch_size)])
        outer_DD = features_ND.T @ features_ND
        gaussians += gaussian(torch.tensor(len(items)), features_ND.sum(dim=0), outer_DD)
    return frechet_distance(*gaussians)


class FrechetMetric(Metric):
    """Base metric of FID and FVD: moments of the real items and of G groups of generated ones.

    All states are sums (float64 and int64): memory is G + 1 matrices (D, D) however many items
    come, and merging the states of several processes is adding them. Items may be real in one
    process and generated in another.

    Args:
        network: feature extractor; may be shared between metrics.
        n_groups: groups of generated items, each compared with the one set of real items.
        kwargs: passed to `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    real_count: Tensor
    real_sum: Tensor
    real_outer: Tensor
    counts: Tensor
    sums: Tensor
    outers: Tensor

    def __init__(self, network: FeatureNetwork, n_groups: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        n = network.n_features
        for prefix, shape in (("real_{}", ()), ("{}s", (n_groups,))):
            states = {
                "count": torch.zeros(shape, dtype=torch.int64),
                "sum": torch.zeros((*shape, n), dtype=torch.float64),
                "outer": torch.zeros((*shape, n, n), dtype=torch.float64),
            }
            for name, zeros in states.items():
                self.add_state(prefix.format(name), zeros, dist_reduce_fx="sum")

    def copy_real(self, other: "FrechetMetric") -> None:
        """Copy the real moments of `other`, so that real features are computed once for all models.

        Raises:
            DataError: `other` has features of another network.
        """
        if self.network.description != other.network.description:
            raise DataError(
                f"{type(self).__name__}: real features of {other.network.description} cannot be "
                f"compared with those of {self.network.description}; use one network for both"
            )
        self._computed = None  # invalidates torchmetrics' cached value
        for name in ("real_count", "real_sum", "real_outer"):
            setattr(self, name, getattr(other, name).clone())

    def _add_real(self, items: Tensor) -> None:
        """Accumulate real items (N, ...), from any device."""
        features_ND = self.network(items.to(self.device))
        self.real_count += len(features_ND)
        self.real_sum += features_ND.sum(dim=0)
        self.real_outer += features_ND.T @ features_ND

    def _add_generated(self, items: Tensor, groups: Sequence[int]) -> None:
        """Accumulate generated items (N, ...), likewise; `groups` holds the group of each."""
        features_ND = self.network(items.to(self.device))
        for group in sorted(set(groups)):
            chosen = [index for index, of in enumerate(groups) if of == group]
            members_ND = features_ND[chosen]
            self.counts[group] += len(members_ND)
            self.sums[group] += members_ND.sum(dim=0)
            self.outers[group] += members_ND.T @ members_ND

    def _distances(self) -> Tensor:
        """Fréchet distance (G,) float64 of each group from the real items; NaN below 2 items."""
        real = gaussian(self.real_count, self.real_sum, self.real_outer)
        distances = [
            frechet_distance(*real, *gaussian(count, sum_D, outer_DD))
            if count >= 2
            else torch.full_like(sum_D[0], torch.nan)
            for count, sum_D, outer_DD in zip(self.counts, self.sums, self.outers, strict=True)
        ]
        return torch.stack(distances)
