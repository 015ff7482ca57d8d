"""Metrics on several gloo ranks, each with a part of the clips; see test_metrics_ranks."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hvp.metrics.diversity import HorizonDiversity
from hvp.metrics.fid import FID
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.image import HorizonImageQuality
from hvp.metrics.label_drift import LabelDrift
from hvp.metrics.likelihood import HorizonLikelihood
from hvp.metrics.perceptual import HorizonLPIPS, LPIPSNetwork
from hvp.metrics.segmentation import HorizonIoU
from hvp.metrics.video import FVD, SlidingFVD

N_CLIPS, HORIZON, N_CLASSES = 5, 12, 4


def six_means(items: Tensor) -> Tensor:
    """Means of six parts of each item, (N, 6)."""
    parts = items.double().flatten(1).chunk(6, dim=1)
    return torch.stack([part.mean(dim=1) for part in parts], dim=1)


def results(clips: range) -> dict[str, Any]:
    """All metrics over some of the clips; with several ranks, over those of all."""
    network = FeatureNetwork(six_means, 6, "six means")
    likeness = LPIPSNetwork(lambda a, b: (a - b).square().mean((1, 2, 3)), "mean square")
    segmentation, diversity = HorizonIoU(N_CLASSES, HORIZON), HorizonDiversity(N_CLASSES, HORIZON)
    quality, lpips = HorizonImageQuality(HORIZON), HorizonLPIPS(likeness, HORIZON)
    fvd, sliding = FVD(network, 4, 4), SlidingFVD(network, HORIZON, 4, 4)
    fid, likelihood = FID(network), HorizonLikelihood(HORIZON)
    drift = LabelDrift(N_CLASSES, HORIZON, window=4)
    for clip in clips:
        dice = torch.Generator().manual_seed(clip)
        length = HORIZON - clip  # ground truth of different lengths
        labels = torch.randint(0, N_CLASSES, (4, HORIZON, 6, 6), generator=dice, dtype=torch.uint8)
        film = torch.randint(0, 256, (4, HORIZON, 3, 16, 16), generator=dice, dtype=torch.uint8)
        film[1:] //= 2
        segmentation.update(labels[1:], labels[0, :length])
        labels[1, clip:] = 0  # or all clips would have the same statistics
        diversity.update(labels[1:])
        drift.update(labels[:1, :length], real=True)
        drift.update(labels[1:], real=False)
        quality.update(film[1:], film[0, :length])
        lpips.update(film[1:], film[0, :length])
        for metric in (fvd, sliding):
            metric.update(film[:1, :length], real=True)
            for piece in film[1:].split(5, dim=1):
                metric.update(piece, real=False, last=False)
            metric.update(film[1:, :0], real=False)
        fid.update(film[0, :length], real=True)
        fid.update(film[1], real=False)
        likelihood.update(*torch.rand(2, 1, length, generator=dice))
    metrics = (segmentation, diversity, drift, quality, lpips, fvd, sliding, fid, likelihood)
    return {type(metric).__name__: metric.compute() for metric in metrics}


def run_rank(rank: int, n_ranks: int, folder: Path) -> None:
    """Update the metrics with every n-th clip; write the results of this rank to `folder`."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=n_ranks
    )
    found = results(range(rank, N_CLIPS, n_ranks))
    torch.save({name: flatten(value) for name, value in found.items()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def flatten(value: Any) -> list[Tensor]:
    """The numbers of a result, however nested, as tensors."""
    if isinstance(value, tuple):
        return [part for item in value for part in flatten(item)]
    return [torch.as_tensor(value, dtype=torch.float64)]
