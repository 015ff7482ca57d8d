"""Small networks and random clips for the tests of the image generator."""

from typing import Any

import torch
from torch import Tensor

from hvp.clips import ClipBatch, ClipId
from hvp.flow.teachers import DISFlow, FlowTeacher
from hvp.image.vid2vid.discriminators import ImageDiscriminator, TemporalDiscriminators
from hvp.image.vid2vid.module import Vid2Vid
from hvp.image.vid2vid.sequence import SequenceGenerator

N_CLASSES = 4


def small_generator(**changes: Any) -> SequenceGenerator:
    settings: dict[str, Any] = {
        "n_classes": N_CLASSES,
        "n_frames_G": 3,
        "ngf": 4,
        "n_down": 1,
        "n_blocks": 2,
        "n_blocks_local": 1,
        "n_scales_spatial": 1,
        "foreground_classes": [2],
        "no_flow": False,
        "synthesise_first": False,
        "norm": "batch",
        "flow_multiplier": 20.0,
    }
    torch.manual_seed(0)
    return SequenceGenerator(**{**settings, **changes})


def small_module(
    generator: SequenceGenerator | None = None,
    flow_teacher: FlowTeacher | None = None,
    **changes: Any,
) -> Vid2Vid:
    torch.manual_seed(0)
    patch: dict[str, Any] = {"ndf": 4, "n_layers": 2, "num_D": 1, "norm": "batch"}
    settings: dict[str, Any] = {
        "perceptual": None,
        "lambda_feat": 10.0,
        "lambda_F": 10.0,
        "lambda_T": 10.0,
        "lr": 2e-4,
        "betas": (0.5, 0.999),
        "ttur": False,
        "ttur_betas": (0.0, 0.9),
        "n_epochs": 2,
        "n_epochs_decay": 4,
        "n_epochs_step": 10,
        "n_frames_total": 4,
        "n_frames_max": 128,
        "n_frames_load": 2,
        "n_frames_bp": 1,
    }
    return Vid2Vid(
        generator=generator or small_generator(),
        image_discriminator=ImageDiscriminator(n_classes=N_CLASSES, **patch),
        temporal_discriminators=TemporalDiscriminators(
            n_scales_temporal=2, n_frames_D=3, flow_scale=20.0, **patch
        ),
        flow_teacher=lambda: flow_teacher or DISFlow(),
        **{**settings, **changes},
    )


def random_labels(batch: int, frames: int, size: int = 16, seed: int = 0) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, N_CLASSES, (batch, frames, size, size), dtype=torch.uint8, generator=dice
    )


def random_frames(batch: int, frames: int, size: int = 16, seed: int = 1) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, frames, 3, size, size), dtype=torch.uint8, generator=dice)


def random_clips(batch: int, frames: int, size: int = 16, flow: bool = False) -> ClipBatch:
    return ClipBatch(
        labels_BTHW=random_labels(batch, frames, size),
        ids=[ClipId("random", i, 1) for i in range(batch)],
        frames_BT3HW=random_frames(batch, frames, size),
        flow_BT2HW=torch.zeros(batch, frames, 2, size, size) if flow else None,
    )
