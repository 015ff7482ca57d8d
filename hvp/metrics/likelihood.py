"""Negative log-likelihood and KL divergence of a stochastic model, per step.

The model computes both (they are its training loss); here they are averaged over the clips of a
data set, whose lengths may differ.

Shapes: N clips, T steps.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from hvp.errors import DataError


def sum_per_step(values_NT: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Sums over the clips and their number, at each step.

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
    """What `HorizonLikelihood` computes; index 0 is the first step."""

    nll: np.ndarray
    """float64 (T,): mean over clips, in the unit that `update` was given; NaN without clips."""
    kl: np.ndarray
    """float64 (T,): likewise."""
    clips: np.ndarray
    """int64 (T,): clips with a value of both at each step."""


class HorizonLikelihood(Metric):
    """Mean negative log-likelihood and KL divergence per step, over clips.

    Every clip counts the same, whatever batch it came in.

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
        """Add the values of N clips.

        Args:
            nll_NT: negative log-likelihood of each clip at each step; NaN where there is no ground
                truth, and then the clip's KL counts nothing either. On any device.
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
        """The means over all clips so far."""
        counts_T = self.counts.cpu().numpy()
        # A step without any clip is 0/0: NaN, as documented.
        with np.errstate(invalid="ignore"):
            nll_T, kl_T = self.sums.cpu().numpy() / counts_T
        return LikelihoodScores(nll_T, kl_T, counts_T)
