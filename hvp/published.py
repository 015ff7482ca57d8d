"""Shared code of the importers of published checkpoints: safe loading, shape checks, writing.

Used by `hvp.structure.svg_lp.published` and `hvp.image.vid2vid.published`.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import pytorch_lightning as pl
import torch
from torch import Tensor

from hvp.errors import ArtifactError
from hvp.files import atomic_path
from hvp.torch_files import UnreadableFile, add_checksum, load_torch_file

State = Mapping[str, Tensor]
"""A state dict."""


def load_published(file: Path) -> Any:
    """Load a `torch.save` file safely (`weights_only`), tensors on the CPU.

    Raises:
        ArtifactError: the file is missing, would unpickle code, or is not readable.
    """
    if not file.is_file():
        raise ArtifactError(f"{file}: no such file; give a published checkpoint or its directory")
    try:
        # The published files hold their command-line options, an argparse.Namespace: plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return load_torch_file(file)
    except UnreadableFile as error:
        if error.code is None:
            raise ArtifactError(
                f"{file}: not readable by torch.load ({error}); download or copy it again"
            ) from error
        raise ArtifactError(
            f"{file}: holds {error.code}, which only unsafe unpickling could read, and that "
            "runs code from the file; where you trust it, load it there with torch.load(..., "
            "weights_only=False) and torch.save() its state dicts alone"
        ) from error


def is_state(value: object) -> TypeGuard[State]:
    """Whether a value is a state dict: names to tensors."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )


def check_state(found: State, expected: State, what: str, remedy: str) -> None:
    """Check names and shapes of a converted state dict against the model's.

    Args:
        found: converted state dict.
        expected: state dict of the model (may lie on the meta device).
        what: start of the error message.
        remedy: end of the error message.

    Raises:
        ArtifactError: a name is missing or unknown, or a tensor has another shape.
    """
    for name in sorted(expected.keys() | found.keys()):
        ours, theirs = expected.get(name), found.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            there, wanted = (
                "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
                for tensor in (theirs, ours)
            )
            raise ArtifactError(f"{what}: found {there} for {name}, expected {wanted}; {remedy}")


def save_checkpoint(
    state: State, name: str, version: int, settings: dict[str, Any], destination: Path
) -> None:
    """Write a Lightning checkpoint, float32, atomically.

    Weights only, for prediction, validation and fine-tuning; there is no optimizer state.

    Args:
        state: state dict of the LightningModule.
        name: name of the model family.
        version: version of its settings.
        settings: the settings of the module that could be inferred, JSON values.
        destination: file to write (.ckpt).
    """
    checkpoint = {
        "state_dict": {n: t.float() if t.is_floating_point() else t for n, t in state.items()},
        "pytorch-lightning_version": pl.__version__,
        "epoch": 0,
        "global_step": 0,
        "model": {"name": name, "version": version, "settings": settings},
    }
    with atomic_path(destination) as temporary:
        torch.save(checkpoint, temporary)
        add_checksum(temporary)
