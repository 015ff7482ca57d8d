"""The feature networks of an evaluation: loaded where their weights are, else a reason why not."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from hvp.errors import ConfigError
from hvp.evaluation.results import NotComputed
from hvp.files import file_digest
from hvp.metrics.fid import load_inception
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.i3d_weights import PUBLISHED, TORCHSCRIPT, load_i3d
from hvp.metrics.perceptual import Backbone, LPIPSNetwork, load_lpips
from hvp.pretrained import DOWNLOAD

_FVD = "FVD and sliding-window FVD, of RGB and of colourised label maps"


@dataclass
class Networks:
    """What could be loaded."""

    device: torch.device
    """Where they lie."""
    i3d: FeatureNetwork | None = None
    lpips: LPIPSNetwork | None = None
    inception: FeatureNetwork | None = None
    missing: list[NotComputed] = field(default_factory=list)
    """What cannot be computed without the others, and how to get them."""


def load_networks(
    i3d: str | None,
    lpips: str | None,
    backbone: Backbone,
    device: torch.device,
    command: str,
    inception: str | None = None,
) -> Networks:
    """Load the feature networks whose weights are there.

    Args:
        i3d: `evaluate.i3d`, see `load_i3d`; None for none.
        lpips: `evaluate.lpips`, see `load_lpips`; None for none.
        backbone: `evaluate.lpips_backbone`.
        device: where they shall run.
        command: the command of this evaluation, to which the missing key is appended.
        inception: `evaluate.inception`, see `load_inception`; None for none: FID is optional, so
            that nothing is said to be missing.
    """
    networks = Networks(device)
    try:
        if i3d is None:
            raise ConfigError("evaluate.i3d names no weights of I3D (Kinetics-400)")
        networks.i3d = load_i3d(i3d, "evaluate.i3d").to(device)
    except ConfigError as error:
        fetch = f"{PUBLISHED.command()} && {command} evaluate.i3d={TORCHSCRIPT}{PUBLISHED.name}"
        networks.missing.append(NotComputed(_FVD, f"{error}.", fetch))
    try:
        if lpips is None:
            raise ConfigError(f"evaluate.lpips names no weights of the backbone {backbone}")
        networks.lpips = load_lpips(backbone, lpips, "evaluate.lpips").to(device)
    except ConfigError as error:
        fetch = f"{command} evaluate.lpips={DOWNLOAD}"
        networks.missing.append(NotComputed("LPIPS", f"{error}.", fetch))
    try:
        if inception is not None:
            networks.inception = load_inception(inception, "evaluate.inception").to(device)
    except ConfigError as error:
        fetch = f"pip install torch-fidelity && {command} evaluate.inception={DOWNLOAD}"
        networks.missing.append(NotComputed("FID", f"{error}.", fetch))
    return networks


def weights_state(weights: str | None) -> str | None:
    """What lies behind a weights key now, so that an evaluation is redone when that changes.

    Returns:
        The digest of the file; `download` or `absent` where there is none; None for None.
    """
    if weights is None or weights == DOWNLOAD:
        return weights
    path = Path(weights.removeprefix(TORCHSCRIPT))
    return file_digest(path) if path.is_file() else "absent"
