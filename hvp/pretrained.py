"""Pretrained weights of frozen networks: from a local file, or downloaded on request."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from hvp.errors import ConfigError
from hvp.files import file_digest
from hvp.torch_files import UnreadableFile, load_torch_file

DOWNLOAD = "download"
"""Value of a weights key that asks for the download."""


def load_pretrained(weights: str, published: Any, key: str) -> dict[str, Tensor]:
    """State dict of pretrained weights, on the CPU.

    Args:
        weights: path of a plain state dict file, or `download`.
        published: torchvision weights entry (`Raft_Small_Weights.DEFAULT`, ...) to download.
        key: config key of `weights`, named in error messages.

    Raises:
        ConfigError: the file is missing or no state dict, or the download is impossible.
    """
    if weights == DOWNLOAD:
        try:
            state = published.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"{key}={DOWNLOAD}: could not fetch {published.url} ({error}); fetch it on a "
                f"machine with network access and set {key} to the file"
            ) from error
        return dict(state)
    path = Path(weights)
    if not path.is_file():
        raise ConfigError(
            f"{key}={weights}: no such file; give the path of the state dict published at "
            f"{published.url}, or {key}={DOWNLOAD}"
        )
    try:
        state = load_torch_file(path)
    except UnreadableFile as error:
        raise ConfigError(
            f"{key}={weights}: not a PyTorch weights file ({error}); "
            f"expected the state dict published at {published.url}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ConfigError(
            f"{key}={weights}: holds no plain state dict (name to tensor); "
            f"expected the one published at {published.url}"
        )
    return state


def load_frozen_weights(
    network: torch.nn.Module, state: dict[str, Tensor], weights: str, key: str
) -> None:
    """Load a state dict into `network` (may be on the meta device) and freeze it in eval mode.

    Raises:
        ConfigError: names or shapes are not those of `network`.
    """
    try:
        network.load_state_dict(state, assign=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{key}={weights}: weights of another network ({str(error).splitlines()[0]} "
            f"{str(error).splitlines()[-1].strip()}); expected {type(network).__name__}"
        ) from error
    network.requires_grad_(False).eval()


@dataclass(frozen=True)
class PublishedFile:
    """Weights file on the web, identified by its SHA-256."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """File name, without the URL."""
        return Path(urlsplit(self.url).path).name

    def command(self) -> str:
        """Shell command that downloads the file and verifies it."""
        check = f"echo '{self.sha256}  {self.name}' | sha256sum -c"
        return f"curl -L -o {self.name} '{self.url}' && {check}"

    def fetch(self, key: str) -> Path:
        """Path in torch's download cache; downloads the file where it is missing.

        Args:
            key: config key that asked for it, named in error messages.

        Raises:
            ConfigError: the download fails, or the cached file has another SHA-256.
        """
        path = Path(torch.hub.get_dir()) / "checkpoints" / self.name
        try:
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                # Verified before it gets its name: a broken download never does.
                torch.hub.download_url_to_file(self.url, str(path), hash_prefix=self.sha256)
            found = file_digest(path)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"{key}={DOWNLOAD}: could not fetch {self.url} ({error}); on a machine with "
                f"network access run: {self.command()}, and set {key} to the file"
            ) from error
        if found != self.sha256:
            raise ConfigError(
                f"{key}={DOWNLOAD}: {path} has SHA-256 {found}, expected {self.sha256}; delete it "
                "to fetch it again"
            )
        return path
