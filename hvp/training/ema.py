"""The mean of a training's weights over its last batches, in place of those of the very last.

A generator that plays against discriminators never settles; the mean of where it has been makes
better pictures than where it stands (Yazici et al., "The Unusual Effectiveness of Averaging in GAN
Training", ICLR 2019, arXiv 1806.04498). Lightning's callback keeps the mean, validates with it, and
puts it into checkpoints under `state_dict`, beside the weights that training goes on with.
"""

import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


def exponential_mean(decay: float) -> list[WeightAveraging]:
    """What averages weights and buffers after every training batch; nothing with `decay` 0.

    The n-th mean takes min(decay, n / (9 + n)) of the one before. With `decay` from the start, as
    in Lightning's `EMAWeightAveraging`, the first validations (and a sweep's pruner) would see the
    random weights that training began with.

    Args:
        decay: share of the old mean in the new one, in [0, 1): 0.99 is a mean of some 100 batches.
    """
    if not decay:
        return []

    def average(mean: Tensor, weights: Tensor, n_means: int | Tensor) -> Tensor:
        if not mean.is_floating_point():  # batch norm's counters
            return weights
        share = torch.as_tensor((1 + n_means) / (10 + n_means))
        # The trainer may have given the weights another precision than the mean began with.
        return torch.lerp(weights.to(mean.dtype), mean, share.clamp(max=decay).to(mean.dtype))

    return [WeightAveraging(avg_fn=average)]
