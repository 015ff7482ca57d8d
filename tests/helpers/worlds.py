"""Clips of the synthetic worlds as arrays; mirrored joints, part maps of whole clips.

Shapes: T frames, H rows, W columns, J = 17 joints.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np

from hvp.labels import Size
from hvp.worlds.body.capsules import Capsules
from hvp.worlds.body.part_maps import part_map
from hvp.worlds.body.skeleton import MIRRORED
from hvp.worlds.driving import world as driving
from hvp.worlds.walker import world as walker


class DrivingClip(NamedTuple):
    labels_THW: np.ndarray
    frames_THW3: np.ndarray
    flow_T2HW: np.ndarray


class WalkerClip(NamedTuple):
    labels_THW: np.ndarray
    frames_THW3: np.ndarray
    joints_TJ2: np.ndarray
    depth_TJ: np.ndarray


def drive(seed: int, n_frames: int, size: Size = (64, 64)) -> DrivingClip:
    """The first frames of a drive at 10 Hz."""
    frames = islice(driving.stream(seed, size, frame_rate=10.0), n_frames)
    return DrivingClip(*(np.stack(arrays) for arrays in zip(*frames, strict=True)))


def walk(seed: int, n_frames: int, size: Size = (64, 64)) -> WalkerClip:
    """The first frames of a walk at 25 Hz."""
    frames = islice(walker.stream(seed, size, frame_rate=25.0), n_frames)
    return WalkerClip(*(np.stack(arrays) for arrays in zip(*frames, strict=True)))


def mirror(joints_TJ2: np.ndarray, width: float) -> np.ndarray:
    """Joints in the mirror image, `width` pixels wide: left becomes right."""
    mirrored = joints_TJ2[:, MIRRORED].copy()
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


def part_maps(body: Capsules, size: Size) -> np.ndarray:
    """All frames as part maps (T, H, W) uint8."""
    return np.stack([part_map(body, frame, size) for frame in range(len(body.order_TN))])
