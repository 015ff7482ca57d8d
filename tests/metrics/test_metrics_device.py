"""Device placement: inputs on another device are moved to that of the metric."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from hvp.metrics.diversity import HorizonDiversity
from hvp.metrics.fid import FID
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.image import HorizonImageQuality
from hvp.metrics.label_drift import LabelDrift
from hvp.metrics.likelihood import HorizonLikelihood
from hvp.metrics.perceptual import HorizonLPIPS, LPIPSNetwork
from hvp.metrics.segmentation import HorizonIoU
from hvp.metrics.video import FVD, SlidingFVD

NETWORK = FeatureNetwork(lambda x: x.double().flatten(1)[:, :2], 2, "two pixels")
LIKENESS = LPIPSNetwork(lambda a, b: (a - b).abs().mean((1, 2, 3)), "mean difference")
LABELS, FILM = torch.zeros((2, 4, 12, 12)).byte(), torch.zeros((2, 4, 3, 12, 12)).byte()
# A metric, and how it is given all it takes.
METRICS: list[tuple[Metric, Callable[..., None], tuple[Tensor, ...]]] = [
    (metric, lambda metric, *given: metric.update(*given), given)
    for metric, given in (
        (HorizonIoU(2, 4), (LABELS, LABELS[0])),
        (HorizonDiversity(2, 4), (LABELS,)),
        (HorizonLikelihood(4), (torch.zeros(1, 4), torch.zeros(1, 4))),
        (HorizonImageQuality(4), (FILM, FILM[0])),
        (HorizonLPIPS(LIKENESS, 4), (FILM, FILM[0])),
    )
] + [
    (metric, lambda metric, given: metric.update(given, real=False), (given,))
    for metric, given in (
        (LabelDrift(2, 4, window=2), LABELS),
        (FID(NETWORK), FILM[0]),
        (FVD(NETWORK, 2, 2), FILM),
        (SlidingFVD(NETWORK, 4, 2, 2), FILM),
    )
]


@pytest.mark.parametrize(("metric", "update", "given"), METRICS, ids=lambda x: type(x).__name__)
def test_every_input_is_fetched_to_the_device_of_the_metric(
    metric: Metric, update: Callable[..., None], given: tuple[Tensor, ...]
) -> None:
    update(metric, *given)
    # The meta device has no data; computing there fails in another way than fetching from it.
    for index in range(len(given)):
        elsewhere = [x.to("meta") if i == index else x for i, x in enumerate(given)]
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
            update(metric, *elsewhere)
        metric.reset()
