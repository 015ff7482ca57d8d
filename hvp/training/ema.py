"""Exponential moving average (EMA) of the weights: what validates, predicts and is published.

A generator that plays against discriminators never settles; the average of where it has been makes
better pictures than where it stands (Yazici et al., "The Unusual Effectiveness of Averaging in GAN
Training", ICLR 2019, arXiv 1806.04498). Lightning's callback keeps the average, validates with it,
and puts it into checkpoints under `state_dict`, beside the weights that training goes on with.
"""

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


def ema_callbacks(decay: float) -> list[WeightAveraging]:
    """The callback that averages weights and buffers after every training batch; none with decay 0.

    The n-th average takes min(decay, n / (9 + n)) of the one before. With `decay` from the start,
    as in Lightning's `EMAWeightAveraging`, the first validations (and a sweep's pruner) would see
    the random weights that training began with.

    Args:
        decay: share of the old average in the new one, in [0, 1): 0.99 averages some 100 batches.
    """
    if not decay:
        return []

    def average(old: Tensor, weights: Tensor, n_averaged: int | Tensor) -> Tensor:
        if not old.is_floating_point():  # batch norm's counters
            return weights
        share = torch.as_tensor((1 + n_averaged) / (10 + n_averaged))
        # The trainer may have given the weights another precision than the average began with.
        return torch.lerp(weights.to(old.dtype), old, share.clamp(max=decay).to(old.dtype))

    return [WeightAveraging(avg_fn=average)]
