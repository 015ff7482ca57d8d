"""Feature networks (I3D, LPIPS, Inception), loaded once for all measures.

Each function takes the weights that a config key names, or a network that is loaded already, and
raises `Unavailable` with the command that gets the weights.
"""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from hvp.errors import ConfigError
from hvp.evaluation.measure import Setup
from hvp.evaluation.missing import Unavailable
from hvp.metrics.fid import load_inception
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.i3d_weights import PUBLISHED, TORCHSCRIPT, load_i3d
from hvp.metrics.perceptual import Backbone, LPIPSNetwork, load_lpips
from hvp.pretrained import DOWNLOAD

_N = TypeVar("_N", bound=nn.Module)


def i3d(setup: Setup, weights: str | FeatureNetwork | None) -> FeatureNetwork:
    """I3D (Kinetics-400) for FVD; `weights` as `load_i3d` takes them."""
    fetch = f"{PUBLISHED.command()} && {setup.command} evaluate.i3d={TORCHSCRIPT}{PUBLISHED.name}"
    if weights is None:
        raise Unavailable("evaluate.i3d names no weights of I3D (Kinetics-400).", fetch, unset=True)
    if isinstance(weights, FeatureNetwork):
        return weights
    return _load(setup, ("i3d", weights), lambda: load_i3d(weights, "evaluate.i3d"), fetch)


def lpips(setup: Setup, weights: str | LPIPSNetwork | None, backbone: Backbone) -> LPIPSNetwork:
    """LPIPS; `weights` of its backbone as `load_lpips` takes them."""
    fetch = f"{setup.command} evaluate.lpips={DOWNLOAD}"
    if weights is None:
        why = f"evaluate.lpips names no weights of the backbone {backbone}."
        raise Unavailable(why, fetch, unset=True)
    if isinstance(weights, LPIPSNetwork):
        return weights
    key = ("lpips", backbone, weights)
    return _load(setup, key, lambda: load_lpips(backbone, weights, "evaluate.lpips"), fetch)


def inception(setup: Setup, weights: str | FeatureNetwork | None) -> FeatureNetwork:
    """Inception v3 for FID; `weights` as `load_inception` takes them."""
    fetch = f"pip install torch-fidelity && {setup.command} evaluate.inception={DOWNLOAD}"
    if weights is None:
        raise Unavailable("evaluate.inception names no weights of Inception.", fetch, unset=True)
    if isinstance(weights, FeatureNetwork):
        return weights
    key = ("inception", weights)
    return _load(setup, key, lambda: load_inception(weights, "evaluate.inception"), fetch)


def _load(setup: Setup, key: tuple[str, ...], load: Callable[[], _N], fetch: str) -> _N:
    try:
        return setup.shared(key, lambda: load().to(setup.device))
    except ConfigError as error:
        raise Unavailable(f"{error}.", fetch) from error
