"""Seeded standard-normal noise, independent of batching, device and number of ranks.

Every (clip, sample) pair has its own CPU generator: the same seeds give the same noise on every
device and in every batch, and drawing more samples keeps the first ones.

Shapes: B clips, S samples, T steps, z h w noise map.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hvp.seeds import derive_seed


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clip_noise(
    seeds: Sequence[int], n_steps: int, shape_zhw: Sequence[int], like: Tensor
) -> Tensor:
    """Noise (n_steps, B, z, h, w), one seed per clip, of the dtype and on the device of `like`."""
    clips = [torch.randn(n_steps, *shape_zhw, generator=_generator(seed)) for seed in seeds]
    return torch.stack(clips, dim=1).to(like)


def batch_noise(
    seed: int,
    n_steps: int,
    n_clips: int,
    shape_zhw: Sequence[int],
    like: Tensor,
    rank: int = 0,
    world_size: int = 1,
) -> Tensor:
    """Training noise (n_steps, B, z, h, w) for one rank's B clips of a global batch.

    Fast: one generator on the device of `like` draws for the clips of all ranks, and each rank
    keeps its own (rank r of n has clips r, r + n, ...), so a clip's noise does not depend on the
    number of ranks.
    """
    generator = torch.Generator(like.device).manual_seed(seed)
    shape = (n_steps, n_clips * world_size, *shape_zhw)
    noise = torch.randn(shape, generator=generator, device=like.device)
    return noise[:, rank::world_size].to(like.dtype)


def rollout_noise(
    seeds: Sequence[int], n_context: int, n_samples: int, shape_zhw: Sequence[int], like: Tensor
) -> Iterator[Tensor]:
    """Endless noise for a roll-out: for the context steps, then for each generated step.

    Yields `n_context - 1` tensors (B, z, h, w), then tensors (B, S, z, h, w), of the dtype and on
    the device of `like`.
    """
    context = [derive_seed(seed, "context") for seed in seeds]
    yield from clip_noise(context, n_context - 1, shape_zhw, like)
    generators = [
        _generator(derive_seed(seed, "sample", sample))
        for seed in seeds
        for sample in range(n_samples)
    ]
    while True:
        maps = [torch.randn(*shape_zhw, generator=generator) for generator in generators]
        yield torch.stack(maps).unflatten(0, (len(seeds), n_samples)).to(like)
