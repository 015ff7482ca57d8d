"""Exponential moving average (EMA) of the weights, used in validation, prediction and publication.

GAN training does not converge to a point; averaged weights give better images than the last ones
(Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019, arXiv
1806.04498). Lightning's WeightAveraging callback keeps the average, validates with it, and stores
it in checkpoints as `state_dict`, next to the weights to resume from.
"""

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


def ema_callbacks(decay: float) -> list[WeightAveraging]:
    """EMA callback: averages weights and buffers after every training batch; none for decay 0.

    With warm-up: update n has decay min(decay, n / (9 + n)). With a constant decay, as in
    Lightning's `EMAWeightAveraging`, the first validations (and a sweep's pruner) would measure
    mostly the initial random weights.

    Args:
        decay: share of the old average in the new one, in [0, 1): 0.99 averages some 100 batches.
    """
    if not decay:
        return []

    def average(old: Tensor, weights: Tensor, n_averaged: int | Tensor) -> Tensor:
        if not old.is_floating_point():  # batch norm's counters
            return weights
        share = torch.as_tensor((1 + n_averaged) / (10 + n_averaged))
        # The Trainer may have changed the dtype of the weights since the average was created.
        return torch.lerp(weights.to(old.dtype), old, share.clamp(max=decay).to(old.dtype))

    return [WeightAveraging(avg_fn=average)]
