"""Negative log-likelihood (NLL) and KL divergence of a variational model, per step.

The model computes both (its training loss); here they are averaged over clips of different
lengths.

Shapes: N clips, T steps.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from hvp.errors import DataError


def sum_per_step(values_NT: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Sum over the clips, and number of clips with a value, at each step.

    Args:
        values_NT: one value per clip and step; NaN where a clip has none.
        horizon: number of steps of the results.

    Returns:
        float64 and int64 (horizon,).

    Raises:
        DataError: there are more steps than the horizon, or a value is infinite.

    Example:
        >>> sum_per_step(torch.tensor([[1.0, 2.0], [3.0, torch.nan]]), horizon=3)
        (tensor([4., 2., 0.], dtype=torch.float64), tensor([2, 1, 0]))
    """
    n_steps = values_NT.shape[1]
    if n_steps > horizon:
        raise DataError(
            f"likelihood: values for {n_steps} steps but the horizon is {horizon}; cut them"
        )
    if values_NT.isinf().any():
        raise DataError("likelihood: a value is infinite; check the model's weights")
    values_NT = values_NT.double()
    missing = (0, horizon - n_steps)
    sums_T = values_NT.nan_to_num(nan=0.0).sum(dim=0)
    counts_T = (~values_NT.isnan()).sum(dim=0)
    return torch.nn.functional.pad(sums_T, missing), torch.nn.functional.pad(counts_T, missing)


class LikelihoodScores(NamedTuple):
    """Result of `HorizonLikelihood`; index 0 is the first step."""

    nll: np.ndarray
    """NLL (T,) float64: mean over clips, in the unit given to `update`; NaN without clips."""
    kl: np.ndarray
    """KL divergence (T,) float64, likewise."""
    clips: np.ndarray
    """int64 (T,): number of clips with both values at each step."""


class HorizonLikelihood(Metric):
    """Mean NLL and KL divergence per step, over clips; every clip has the same weight.

    Args:
        horizon: number of steps T.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> metric = HorizonLikelihood(horizon=2)
        >>> metric.update(nll_NT=torch.tensor([[1.0, 2.0]]), kl_NT=torch.tensor([[5.0, 6.0]]))
        >>> metric.update(nll_NT=torch.tensor([[3.0]]), kl_NT=torch.tensor([[7.0]]))
        >>> metric.compute().nll
        array([2., 2.])
        >>> metric.compute().kl
        array([6., 6.])
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    sums: Tensor
    counts: Tensor

    def __init__(self, horizon: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.horizon = horizon
        self.add_state("sums", torch.zeros((2, horizon), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(horizon, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nll_NT: Tensor, kl_NT: Tensor) -> None:
        """Add NLL and KL of N clips.

        Args:
            nll_NT: NLL of each clip at each step, on any device; NaN without ground truth: then
                the KL of that step is not counted either.
            kl_NT: KL divergence, likewise.

        Raises:
            DataError: shapes differ, there are more steps than the horizon, or a value is infinite.
        """
        if nll_NT.shape != kl_NT.shape or nll_NT.dim() != 2:
            raise DataError(
                f"likelihood: nll {tuple(nll_NT.shape)} and kl {tuple(kl_NT.shape)}, expected "
                "(clips, steps) for both"
            )
        pair = nll_NT.to(self.device), kl_NT.to(self.device)
        missing_NT = pair[0].isnan() | pair[1].isnan()
        for index, values_NT in enumerate(pair):
            known_NT = values_NT.masked_fill(missing_NT, torch.nan)
            sums_T, counts_T = sum_per_step(known_NT, self.horizon)
            self.sums[index] += sums_T
        self.counts += counts_T

    def compute(self) -> LikelihoodScores:
        """NLL and KL curves over all clips so far."""
        counts_T = self.counts.cpu().numpy()
        # A step without any clip is 0/0: NaN, as documented.
        with np.errstate(invalid="ignore"):
            nll_T, kl_T = self.sums.cpu().numpy() / counts_T
        return LikelihoodScores(nll_T, kl_T, counts_T)
