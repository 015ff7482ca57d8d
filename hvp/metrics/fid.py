"""Fréchet Inception distance (FID) of frames; optional, needs `pip install torch-fidelity`.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"
(NeurIPS 2017). FID is defined on the Inception v3 of the first TensorFlow release and its resizing;
the library `torch-fidelity` has both. Other Inceptions, such as torchvision's, give other numbers,
so there is no fallback.

Shapes: N frames, H height, W width. Frames are uint8 (3, H, W).
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from hvp.errors import ConfigError
from hvp.files import file_digest
from hvp.metrics.frechet import FeatureNetwork, FrechetMetric, feature_distance, gaussian
from hvp.pretrained import DOWNLOAD, PublishedFile, load_pretrained

PUBLISHED = PublishedFile(
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
"""Weights of the TensorFlow network, converted for PyTorch."""

_POOLED = "2048"  # torch-fidelity's name of the pooled layer, which is its width
_BATCH_SIZE = 16


def load_inception(weights: str, key: str) -> FeatureNetwork:
    """Inception v3 as the feature network of FID: frames (N, 3, H, W) uint8 to 2048 features.

    Args:
        weights: path of the published state dict, or `download` (fetched once, SHA-256 checked).
        key: config key of `weights`, named in error messages.

    Raises:
        ConfigError: `torch-fidelity` is not installed, the file is missing or of another network,
            or the download is impossible.
    """
    # Imported here: an optional dependency, whose absence is an error only when FID is asked for.
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (  # type: ignore[import-not-found,unused-ignore]
            FeatureExtractorInceptionV3,
        )
    except ImportError as error:
        raise ConfigError(
            f"{key}={weights}: FID needs the library torch-fidelity, which is not installed; "
            "run: pip install torch-fidelity"
        ) from error
    path = PUBLISHED.fetch(key) if weights == DOWNLOAD else Path(weights)
    state = load_pretrained(str(path), PUBLISHED, key)
    # The library unpickles its weights file unsafely, so it gets one written here.
    with TemporaryDirectory() as folder:
        safe = Path(folder) / "state.pth"
        torch.save(state, safe)
        try:
            network = FeatureExtractorInceptionV3("inception-v3-compat", [_POOLED], str(safe))
        except RuntimeError as error:
            raise ConfigError(
                f"{key}={weights}: weights of another network "
                f"({str(error).splitlines()[-1].strip()}); get them with: {PUBLISHED.command()}"
            ) from error
    description = f"Inception v3 (TensorFlow 2015), pooled (sha256 {file_digest(path)[:16]})"
    return FeatureNetwork(_Pooled(network), int(_POOLED), description)


class _Pooled(torch.nn.Module):
    """Adapter: unpacks the pooled layer from the library's tuple of layers."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames_N3HW: Tensor) -> Tensor:
        (features_ND,) = self.network(frames_N3HW)
        return features_ND.flatten(1)


def frechet_inception_distance(
    real_N3HW: Tensor, generated_N3HW: Tensor, network: FeatureNetwork
) -> Tensor:
    """Fréchet Inception distance (FID) between two sets of frames.

    Args:
        real_N3HW: uint8 real frames, N at least 2.
        generated_N3HW: uint8 generated frames; the N of both may differ.
        network: from `load_inception`.

    Returns:
        float64 scalar, at least 0.

    Example:
        >>> colour = FeatureNetwork(lambda x: x.float().mean((2, 3)), 3, "mean colour")
        >>> frames = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 8, 8)
        >>> frechet_inception_distance(frames, frames + 1, colour).round(decimals=6)
        tensor(3., dtype=torch.float64)
    """
    return feature_distance(real_N3HW, generated_N3HW, network, _BATCH_SIZE)


class FID(FrechetMetric):
    """Fréchet Inception distance (FID) between all real and all generated frames.

    Args:
        network: from `load_inception`.
        kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> colour = FeatureNetwork(lambda x: x.float().mean((2, 3)), 3, "mean colour")
        >>> frames = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 8, 8)
        >>> metric = FID(colour)
        >>> metric.update(frames, real=True)
        >>> metric.update(frames + 1, real=False)
        >>> metric.compute().round(decimals=6)
        tensor(3., dtype=torch.float64)
    """

    def __init__(self, network: FeatureNetwork, **kwargs: Any) -> None:
        super().__init__(network, **kwargs)

    def update(self, frames_N3HW: Tensor, real: bool) -> None:
        """Add real or generated frames.

        Args:
            frames_N3HW: uint8 frames.
            real: whether the frames are real.
        """
        for part in frames_N3HW.split(_BATCH_SIZE):
            if real:
                self._add_real(part)
            else:
                self._add_generated(part, [0] * len(part))

    def compute(self) -> Tensor:
        """FID, float64 scalar.

        Raises:
            DataError: fewer than 2 real or 2 generated frames.
        """
        gaussian(self.counts[0], self.sums[0], self.outers[0])  # raises on too few frames
        return self._distances()[0]
