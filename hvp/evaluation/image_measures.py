"""Measures of single RGB frames: PSNR, SSIM and LPIPS."""

from dataclasses import replace

from hvp.evaluation import networks
from hvp.evaluation.frame_measure import FrameMeasure
from hvp.evaluation.measure import Setup
from hvp.evaluation.metric import MetricInfo
from hvp.metrics.image import HorizonImageMetric, HorizonImageQuality
from hvp.metrics.perceptual import Backbone, HorizonLPIPS, LPIPSNetwork


class ImageLikeness(FrameMeasure):
    """PSNR and SSIM."""

    metrics = (
        MetricInfo("psnr", "PSNR", "frames", "curve", 2, True, "dB"),
        MetricInfo("ssim", "SSIM", "frames", "curve", 3, True),
    )

    def new_metric(self) -> HorizonImageMetric:
        """See `FrameMeasure`."""
        return HorizonImageQuality(self.setup.steps)


class PerceptualDistance(FrameMeasure):
    """LPIPS.

    Args:
        setup: what the evaluation knows.
        weights: of the backbone, see `load_lpips`, or a network that is loaded already; None for
            none.
        backbone: `alex` or `vgg`.

    Raises:
        Unavailable: there are no weights.
    """

    metrics = (MetricInfo("lpips", "LPIPS", "frames", "curve", 3, False),)

    def __init__(
        self, setup: Setup, weights: str | LPIPSNetwork | None, backbone: Backbone = "alex"
    ) -> None:
        super().__init__(setup)
        self.network = networks.lpips(setup, weights, backbone)
        self.protocol = replace(setup.protocol, feature_network=self.network.description)

    def new_metric(self) -> HorizonImageMetric:
        """See `FrameMeasure`."""
        return HorizonLPIPS(self.network, self.setup.steps).to(self.setup.device)
