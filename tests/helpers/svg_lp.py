"""Small SVG-LP models, their inputs, and a trainer without any output."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from hvp.structure.svg_lp.network import SVGLPNetwork

N_PAST = 2


def build(size: tuple[int, int], batch_norm: bool = False, n_classes: int = 5) -> SVGLPNetwork:
    """A narrow float64 model whose weights are large enough for signals to reach every layer."""
    torch.manual_seed(1)
    model = SVGLPNetwork(
        n_classes,
        size,
        N_PAST,
        base_width=2,
        latent_width=3,
        noise_width=2,
        rnn_width=3,
        batch_norm=batch_norm,
    ).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bn" not in name:
                parameter.normal_(0.0, 0.25)
    return model


def draw_labels(size: tuple[int, int], n_clips: int = 2, length: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shape = (n_clips, length, *size)
    return torch.randint(5, shape, dtype=torch.uint8, generator=generator)


def draw_eps(model: SVGLPNetwork, labels_BTHW: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (labels_BTHW.shape[1] - 1, labels_BTHW.shape[0], *model.noise_shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def assert_same(actual: Tensor, expected: Tensor, name: str = "") -> None:
    torch.testing.assert_close(
        actual, expected, rtol=1e-9, atol=1e-11, msg=lambda text: f"{name}: {text}"
    )


def trainer(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
