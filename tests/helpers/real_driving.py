"""Fixtures of real weights and dash-cam clips; tests that need them are skipped without them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
DRIVING = Path(os.environ.get("HVP_DRIVING_DIR", ROOT / "../shared/data/driving"))
WEIGHTS = Path(os.environ.get("HVP_WEIGHTS_DIR", ROOT / "../shared/data/weights"))
I3D = WEIGHTS / "i3d_kinetics400_tfhub.pth"
ALEXNET = WEIGHTS / "alexnet_imagenet_features.pth"
LPIPS_HEADS = WEIGHTS / "lpips_lin_alex_v0.1.pth"
SEQUENCES = ("highway_ca", "highway_tx", "kitti_a")

needs_real_data = pytest.mark.skipif(
    not (I3D.is_file() and ALEXNET.is_file() and (DRIVING / SEQUENCES[0]).is_dir()),
    reason=f"no real weights in {WEIGHTS} or no clips in {DRIVING}: set HVP_WEIGHTS_DIR and "
    "HVP_DRIVING_DIR to them",
)


def frames(sequence: str, first: int, count: int) -> Tensor:
    """Consecutive real frames (count, 3, 128, 256) uint8; fewer where the sequence ends."""
    paths = sorted((DRIVING / sequence / "rgb").glob("*.png"))[first : first + count]
    pictures = np.stack([np.asarray(Image.open(path)) for path in paths])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)
