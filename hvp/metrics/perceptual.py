"""LPIPS perceptual distance of RGB frames, and its curve over the horizon.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR 2018),
version 0.1, computed by the authors' library `lpips`.

Shapes: S samples, P consecutive steps (or N frames of any kind), H height, W width. Frames are
uint8 (3, H, W).
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lpips
import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights, VGG16_Weights

from hvp.errors import ConfigError
from hvp.files import file_digest
from hvp.metrics.horizon import HorizonCurve
from hvp.metrics.image import HorizonImageMetric
from hvp.precision import without_autocast
from hvp.pretrained import DOWNLOAD, load_frozen_weights, load_pretrained

Backbone = Literal["alex", "vgg"]

_PUBLISHED = {"alex": AlexNet_Weights.IMAGENET1K_V1, "vgg": VGG16_Weights.IMAGENET1K_V1}
_BUNDLED = "bundled"
_BATCH_SIZE = 16  # bounds the features held: 1 GB at 256x256 with vgg, far less with alex


class LPIPSNetwork(nn.Module):
    """Frozen LPIPS network; stays in eval mode.

    Args:
        network: `lpips.LPIPS` of version 0.1: two batches of frames in -1..1 to N distances.
        description: backbone and weights digests, for the evaluation protocol.
    """

    def __init__(self, network: Callable[[Tensor, Tensor], Tensor], description: str) -> None:
        super().__init__()
        self.network = network
        self.description = description
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LPIPSNetwork":
        """Stay in eval mode, also when a module around it is set to train."""
        return super().train(False)

    @without_autocast
    @torch.no_grad()
    def forward(self, prediction_N3HW: Tensor, truth_N3HW: Tensor) -> Tensor:
        """LPIPS (N,) float64 of each pair of uint8 frames; see `perceptual_distance`."""
        distances = []
        parts = zip(prediction_N3HW.split(_BATCH_SIZE), truth_N3HW.split(_BATCH_SIZE), strict=True)
        for pair in parts:
            prediction, truth = (frames.float() * (2.0 / 255.0) - 1.0 for frames in pair)
            distances.append(self.network(prediction, truth).flatten().double())
        return torch.cat(distances)


def load_lpips(
    backbone: Backbone, weights: str, key: str, heads: str = _BUNDLED, heads_key: str = "heads"
) -> LPIPSNetwork:
    """Load LPIPS with its published weights.

    Args:
        backbone: `alex` (what papers report) or `vgg`.
        weights: state dict of torchvision's AlexNet or VGG16 trained on ImageNet (whole, or its
            `features.*`): a path, or `download`.
        key: config key of `weights`, named in error messages.
        heads: state dict of the linear heads, version 0.1, or `bundled` for those that come with
            the library.
        heads_key: config key of `heads`.

    Raises:
        ConfigError: the backbone is unknown, or a file is missing or of another network.
    """
    if backbone not in _PUBLISHED:
        raise ConfigError(f"LPIPS backbone {backbone!r}: expected one of {', '.join(_PUBLISHED)}")
    published = _PUBLISHED[backbone]
    if heads == _BUNDLED:
        heads_path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{backbone}.pth"
    else:
        heads_path = Path(heads)
    head_state = load_pretrained(str(heads_path), _PublishedHeads(backbone), heads_key)
    features = {
        name.removeprefix("features."): tensor
        for name, tensor in load_pretrained(weights, published, key).items()
        if name.startswith("features.")
    }
    with torch.device("meta"), warnings.catch_warnings():
        # The library calls torchvision with a deprecated argument; nothing to act on.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
        network = lpips.LPIPS(pretrained=False, net=backbone, pnet_rand=True, verbose=False)
    # The library groups the backbone's layers in slices but keeps their numbers.
    sliced = {
        name: features[layer]
        for name in network.net.state_dict()
        if (layer := name.split(".", 1)[1]) in features
    }
    load_frozen_weights(network.net, sliced, weights, key)
    numbered = {name.removeprefix("lin"): tensor for name, tensor in head_state.items()}
    load_frozen_weights(network.lins, numbered, heads, heads_key)
    if weights == DOWNLOAD:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    else:
        path = Path(weights)
    return LPIPSNetwork(
        network,
        f"LPIPS 0.1 {backbone} (sha256: backbone {file_digest(path)[:16]}, "
        f"heads {file_digest(heads_path)[:16]})",
    )


class _PublishedHeads:
    """URL of the published linear heads, for error messages."""

    def __init__(self, backbone: str) -> None:
        self.url = (
            "https://github.com/richzhang/PerceptualSimilarity/blob/master/lpips/weights/v0.1/"
            f"{backbone}.pth"
        )


def perceptual_distance(
    prediction_N3HW: Tensor, truth_N3HW: Tensor, network: LPIPSNetwork
) -> Tensor:
    """LPIPS of each frame; 0 for identical frames, larger is less similar.

    Args:
        prediction_N3HW: uint8 frames; H and W at least 32 for `alex`, 16 for `vgg`.
        truth_N3HW: uint8 frames of the same shape.
        network: from `load_lpips`.

    Returns:
        float64 (N,).

    Example:
        >>> stand_in = LPIPSNetwork(lambda a, b: (a - b).abs().mean((1, 2, 3)), "mean difference")
        >>> frames = torch.zeros((1, 3, 32, 32), dtype=torch.uint8)
        >>> perceptual_distance(frames + 51, frames, stand_in).round(decimals=6)
        tensor([0.4000], dtype=torch.float64)
    """
    distances: Tensor = network(prediction_N3HW, truth_N3HW)
    return distances


class HorizonLPIPS(HorizonImageMetric):
    """LPIPS of predicted frames per predicted step; the best sample has the LOWEST mean.

    Args:
        network: from `load_lpips`; may be shared between metrics.
        horizon: number of predicted steps T.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> stand_in = LPIPSNetwork(lambda a, b: (a - b).abs().mean((1, 2, 3)), "mean difference")
        >>> truth = torch.zeros((2, 3, 32, 32), dtype=torch.uint8)
        >>> metric = HorizonLPIPS(stand_in, horizon=2)
        >>> metric.update(torch.stack((truth + 102, truth + 51)), truth)
        >>> metric.compute().best.round(6)
        array([0.4, 0.4])
    """

    higher_is_better = False

    def __init__(self, network: LPIPSNetwork, horizon: int, **kwargs: Any) -> None:
        super().__init__(("lpips",), horizon, **kwargs)
        self.network = network

    def _score(self, prediction_N3HW: Tensor, truth_N3HW: Tensor) -> Tensor:
        return perceptual_distance(prediction_N3HW, truth_N3HW, self.network).unsqueeze(0)

    def compute(self) -> HorizonCurve:
        """LPIPS curve over all clips so far."""
        return self.curves()["lpips"]
