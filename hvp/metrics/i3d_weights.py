"""Feature extractor of FVD: loads I3D weights trained on Kinetics-400.

The weights of the TensorFlow Hub model that FVD is defined on come in two formats:

- a plain state dict of `InceptionI3d` (tensors by name): safe, nothing in it runs;
- `i3d_torchscript.pt`, which most published FVD numbers use. TorchScript is a program: loading it
  unpickles no Python objects, but running it runs its author's code with the rights of this
  process. It is loaded only on request: `torchscript:FILE`, or `download`, which accepts only the
  file with the SHA-256 below.

The tests compare both formats on our own network, exported with the call of the published program;
they download nothing.

Shapes: N windows, T frames, H height, W width.
"""

import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from hvp.errors import ConfigError
from hvp.files import file_digest
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.i3d import KINETICS_CLASSES, InceptionI3d, preprocess
from hvp.pretrained import DOWNLOAD, PublishedFile, load_frozen_weights, load_pretrained

TORCHSCRIPT = "torchscript:"
"""Prefix of a weights path: a TorchScript program that the user trusts to be run."""

PUBLISHED = PublishedFile(
    "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
)
"""TorchScript I3D of StyleGAN-V's FVD (51,235,320 bytes)."""

_FORWARD_OPTIONS = {"rescale": True, "resize": True, "return_features": True}


class _PyTorchI3D(nn.Module):
    """I3D in PyTorch with its preprocessing."""

    def __init__(self, i3d: nn.Module) -> None:
        super().__init__()
        self.i3d = i3d

    def forward(self, videos_NT3HW: Tensor) -> Tensor:
        logits: Tensor = self.i3d(preprocess(videos_NT3HW))
        return logits


class _TorchScriptI3D(nn.Module):
    """I3D as TorchScript program, which does its own preprocessing."""

    def __init__(self, program: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.program = program

    def forward(self, videos_NT3HW: Tensor) -> Tensor:
        logits: Tensor = self.program(videos_NT3HW.transpose(1, 2).float(), **_FORWARD_OPTIONS)
        return logits


def load_i3d(weights: str, key: str) -> FeatureNetwork:
    """I3D as the feature network of FVD: windows (N, T, 3, H, W) uint8 to 400 logits.

    Args:
        weights: path of a plain state dict of `InceptionI3d`; `torchscript:` and the path of a
            TorchScript program, called as `program(x, rescale=True, resize=True,
            return_features=True)` on (N, 3, T, H, W) in 0..255, which you trust to be run; or
            `download` for the published TorchScript file (fetched once, SHA-256 checked).
        key: config key of `weights`, named in error messages.

    Raises:
        ConfigError: the file is missing, of the other format or of another network, or the
            download fails.
    """
    if weights == DOWNLOAD:
        path = PUBLISHED.fetch(key)
        return _named(_TorchScriptI3D(_load_torchscript(path, key)), path)
    path = Path(weights.removeprefix(TORCHSCRIPT))
    if not path.is_file():
        raise ConfigError(
            f"{key}={weights}: no such file; give a state dict of InceptionI3d, or run: "
            f"{PUBLISHED.command()} and write {key}={TORCHSCRIPT}{PUBLISHED.name}"
        )
    if weights.startswith(TORCHSCRIPT):
        return _named(_TorchScriptI3D(_load_torchscript(path, key)), path)
    if _is_torchscript(path):
        raise ConfigError(
            f"{key}={weights}: is a TorchScript program, which runs code of its author; if you "
            f"trust where it came from, write {key}={TORCHSCRIPT}{weights}"
        )
    state = load_pretrained(weights, PUBLISHED, key)
    with torch.device("meta"):
        i3d = InceptionI3d()
    load_frozen_weights(i3d, state, weights, key)
    return _named(_PyTorchI3D(i3d), path)


def _named(network: nn.Module, path: Path) -> FeatureNetwork:
    description = f"I3D Kinetics-400 logits (sha256 {file_digest(path)[:16]})"
    return FeatureNetwork(network, KINETICS_CLASSES, description)


def _is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except Exception:  # whatever zipfile meets in a file that is none
        return False


def _load_torchscript(path: Path, key: str) -> torch.jit.ScriptModule:
    if not _is_torchscript(path):
        raise ConfigError(
            f"{key}={TORCHSCRIPT}{path}: is no TorchScript file; for a plain state dict write "
            f"{key}={path}"
        )
    try:
        with warnings.catch_warnings():
            # Newer torch deprecates TorchScript, but the published file has no other format.
            warnings.filterwarnings("ignore", message=".*torch.jit.load", category=FutureWarning)
            program = torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise ConfigError(
            f"{key}={TORCHSCRIPT}{path}: cannot be loaded ({str(error).splitlines()[0]}); get the "
            f"file again with: {PUBLISHED.command()}"
        ) from error
    found = {argument.name for argument in program.forward.schema.arguments}
    if missing := sorted(_FORWARD_OPTIONS.keys() - found):
        raise ConfigError(
            f"{key}={TORCHSCRIPT}{path}: its call lacks the arguments {', '.join(missing)}; "
            f"expected the I3D of: {PUBLISHED.command()}"
        )
    return program
