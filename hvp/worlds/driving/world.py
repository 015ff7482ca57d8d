"""Synthetic driving world: dash-cam video with semantic labels, RGB, ground-truth optical flow.

Flow is backward, in pixels, x then y: frame_t(p) shows the surface point that frame_{t-1} shows at
p + flow_t(p). It is computed from the visible surface point and both camera poses, with the motion
of moving objects; where that point was occluded or outside the image, flow still gives its
position. Sky and skyline are infinitely far: they follow the camera's rotation only. Shadows and
lane markings move with the ground. The first frame's flow is 0.

Shapes: H height, W width.
"""

from collections.abc import Iterator
from itertools import count
from random import Random

import numpy as np

from hvp.errors import ConfigError
from hvp.worlds.driving.render import Renderer
from hvp.worlds.driving.road import Road
from hvp.worlds.driving.settings import AVENUE, WORLD_VERSION, DrivingWorld
from hvp.worlds.driving.traffic import Traffic

__all__ = ["AVENUE", "WORLD_VERSION", "DrivingWorld", "stream"]

Frame = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Frame: labels (H, W) uint8 train ids, RGB (H, W, 3) uint8, backward flow (2, H, W) float32."""


def stream(
    seed: int,
    size: tuple[int, int] = (64, 64),
    frame_rate: float = 10.0,
    future_seed: int | None = None,
    branch_at: int | None = None,
    world: DrivingWorld | None = None,
) -> Iterator[Frame]:
    """Endless frame iterator of one recording, in constant memory.

    Args:
        seed: random seed of the recording; equal seeds give equal bytes.
        size: image height and width, each at least 32. The scene does not depend on it.
        frame_rate: frame rate in Hz.
        future_seed: random seed from frame `branch_at` on: several futures of the same past.
        branch_at: first frame that the other future may change; needs `future_seed`.
        world: settings; None = defaults.

    Raises:
        ConfigError: size, frame rate or branch is out of range.
    """
    height, width = size
    if min(height, width) < 32:
        raise ConfigError(f"size: found {height}x{width}; the driving world needs at least 32x32")
    if not frame_rate > 0:
        raise ConfigError(f"frame_rate: found {frame_rate}; give frames per second above 0")
    if (future_seed is None) != (branch_at is None) or (branch_at is not None and branch_at < 1):
        raise ConfigError(
            f"branch_at={branch_at}, future_seed={future_seed}: a branch needs both, and branch_at "
            "at least 1 (the first frame that differs)"
        )
    return _frames(seed, size, frame_rate, future_seed, branch_at, world or DrivingWorld())


def _frames(seed: int, size: tuple[int, int], frame_rate: float, future_seed: int | None,
            branch_at: int | None, world: DrivingWorld) -> Iterator[Frame]:  # fmt: skip
    # Seeds as text are hashed (SHA-512): neighbouring seeds are independent.
    road = Road(world, Random(f"road {seed}"))
    traffic = Traffic(world, road, Random(f"traffic {seed}"), 1.0 / frame_rate)
    renderer = Renderer(world, road, traffic, size, Random(f"weather {seed}"))
    yield renderer.draw()
    for index in count(1):
        if index == branch_at:
            road.random = Random(f"road {seed} {future_seed}")
            traffic.random = Random(f"traffic {seed} {future_seed}")
        traffic.step()
        yield renderer.draw()
