"""Synthetic walker world: video of a person who walks, turns, jogs, waves, crouches and jumps.

The motion is random, so a past has many futures. Labels are body part maps rendered from the
projected joints (`hvp.worlds.body`); RGB adds clothes, skin, light and a room that labels do not
show.

Shapes: T frames, H height, W width, J = 17 joints.
"""

import math
from collections.abc import Iterator
from itertools import count, islice
from random import Random
from typing import NamedTuple

import numpy as np

from hvp.errors import ConfigError
from hvp.labels import Size
from hvp.worlds.body.capsules import Capsules, capsules
from hvp.worlds.body.part_maps import part_map, rasterize
from hvp.worlds.body.skeleton import N_JOINTS, BodyOrientation, Joint
from hvp.worlds.walker.appearance import Appearance
from hvp.worlds.walker.motion import Person
from hvp.worlds.walker.room import Room, StaticCamera
from hvp.worlds.walker.settings import WALKER_VERSION, WalkerWorld

__all__ = ["WALKER_VERSION", "WalkerFrame", "WalkerWorld", "stream", "walk_joints"]

_SSAA = 2
"""Supersampling factor of RGB (anti-aliasing), in both directions."""
_BLOCK = 16
"""Frames per batch of body computations."""


class WalkerFrame(NamedTuple):
    """Frame of a recording."""

    labels: np.ndarray
    """Body part map (H, W) uint8 in DensePose classes."""
    rgb: np.ndarray
    """RGB (H, W, 3) uint8."""
    joints: np.ndarray
    """2D joints (J, 2) float64 in pixels, in the order of `hvp.worlds.body.skeleton.Joint`."""
    depth: np.ndarray
    """Joint depth (J,) float64 in pixels, relative to the hip, away from the camera."""


def stream(
    seed: int,
    size: Size = (64, 64),
    frame_rate: float = 25.0,
    future_seed: int | None = None,
    branch_at: int | None = None,
    world: WalkerWorld | None = None,
    view: int = 0,
) -> Iterator[WalkerFrame]:
    """Endless frame iterator of one recording, in constant memory.

    Args:
        seed: random seed of the recording; equal seeds give equal bytes.
        size: image height and width, each at least 32. The motion does not depend on it.
        frame_rate: frame rate in Hz.
        future_seed: random seed from frame `branch_at` on: several futures of the same past.
        branch_at: first frame that the other future may change; needs `future_seed`.
        world: settings; None = defaults.
        view: camera index; cameras stand around the floor at quarter turns, each before a wall of
            its own, and see the same motion.

    Raises:
        ConfigError: size, frame rate or branch is out of range.
    """
    if min(size) < 32:
        raise ConfigError(f"size: found {size[0]}x{size[1]}; the walker world needs at least 32x32")
    if not frame_rate > 0:
        raise ConfigError(f"frame_rate: found {frame_rate}; give frames per second above 0")
    if (future_seed is None) != (branch_at is None) or (branch_at is not None and branch_at < 1):
        raise ConfigError(
            f"branch_at={branch_at}, future_seed={future_seed}: a branch needs both, and branch_at "
            "at least 1 (the first frame that differs)"
        )
    return _frames(seed, size, frame_rate, future_seed, branch_at, world or WalkerWorld(), view)


def _frames(seed: int, size: Size, frame_rate: float, future_seed: int | None,
            branch_at: int | None, world: WalkerWorld, view: int
            ) -> Iterator[WalkerFrame]:  # fmt: skip
    camera = StaticCamera.make(world, size, Random(f"camera {seed} {view}"))
    picture = _FrameRenderer(world, camera, size, seed, view)
    for joints, headings in _motion(seed, frame_rate, future_seed, branch_at, world, view):
        yield from picture.draw(joints, headings)


def _motion(seed: int, frame_rate: float, future_seed: int | None, branch_at: int | None,
            world: WalkerWorld, view: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Motion in blocks: 3D joints (T, J, 3) in the camera's world axes, and headings (T,)."""
    # Seeds as text are hashed (SHA-512): neighbouring seeds are independent.
    person = Person(world, Random(f"body {seed}"), Random(f"motion {seed}"), 1.0 / frame_rate)
    quarter = view * math.pi / 2
    c, s = math.cos(quarter), math.sin(quarter)
    turn = np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
    for first in count(0, _BLOCK):
        joints, headings = np.empty((_BLOCK, N_JOINTS, 3)), np.empty(_BLOCK)
        for index in range(_BLOCK):
            if first + index == branch_at:
                person.random = Random(f"motion {seed} {future_seed}")
            if first + index:
                person.step()
            joints[index], headings[index] = person.joints(), person.heading
        yield joints @ turn, headings + quarter


def walk_joints(
    seed: int, n_frames: int, size: Size, frame_rate: float, view: int = 0
) -> np.ndarray:
    """2D joints (T, J, 2) in pixels of `stream`'s first frames, without rendering."""
    world = WalkerWorld()
    camera = StaticCamera.make(world, size, Random(f"camera {seed} {view}"))
    blocks = islice(_motion(seed, frame_rate, None, None, world, view), -(-n_frames // _BLOCK))
    return np.concatenate([camera.project(joints)[0] for joints, _ in blocks])[:n_frames]


def _project(camera: StaticCamera, joints_TJ3: np.ndarray, headings_T: np.ndarray
         ) -> tuple[np.ndarray, np.ndarray, BodyOrientation, np.ndarray]:  # fmt: skip
    """Project joints: 2D joints, depth, body orientation and torso length, in pixels."""
    pixels, depth = camera.project(joints_TJ3)
    hip = joints_TJ3[:, Joint.HIP]
    per_metre = camera.focal / depth[:, Joint.HIP]
    depth = (depth - depth[:, [Joint.HIP]]) * per_metre[:, None]
    # The orientation is relative to the line from the camera to the person.
    angle = headings_T - np.arctan2(hip[:, 0], hip[:, 2] + camera.distance)
    shoulders = joints_TJ3[:, [Joint.L_SHOULDER, Joint.R_SHOULDER]].mean(1)
    hips = joints_TJ3[:, [Joint.L_HIP, Joint.R_HIP]].mean(1)
    length = np.linalg.norm(shoulders - hips, axis=-1) * per_metre
    return pixels, depth, BodyOrientation(-np.cos(angle), np.sin(angle)), length


class _FrameRenderer:
    """Renderer of label maps and RGB of one recording."""

    def __init__(self, world: WalkerWorld, camera: StaticCamera, size: Size, seed: int,
                 view: int) -> None:  # fmt: skip
        self.camera, self.size = camera, size
        self._fine_size = (size[0] * _SSAA, size[1] * _SSAA)
        self._fine_camera = camera.enlarged(_SSAA)
        self._room = Room(world, self._fine_camera, self._fine_size, Random(f"room {seed} {view}"))
        self._seed = seed
        self._appearance: Appearance | None = None

    def draw(self, joints_TJ3: np.ndarray, headings_T: np.ndarray) -> Iterator[WalkerFrame]:
        """Render the frames of these poses."""
        pixels, depth, orientation, length = _project(self.camera, joints_TJ3, headings_T)
        body = capsules(pixels, depth, orientation, length)
        fine_pixels, fine_depth, _, fine_length = _project(
            self._fine_camera, joints_TJ3, headings_T
        )
        fine = capsules(fine_pixels, fine_depth, orientation, fine_length, _SSAA * 0.5)
        if self._appearance is None:
            self._appearance = Appearance(Random(f"look {self._seed}"), body.names)
        for t in range(len(joints_TJ3)):
            faces = math.atan2(orientation.right_T[t], orientation.towards_T[t])
            rgb = self._rgb(fine, t, joints_TJ3[t], faces, fine_length[t])
            yield WalkerFrame(part_map(body, t, self.size), rgb, pixels[t], depth[t])

    def _rgb(self, body: Capsules, t: int, joints_J3: np.ndarray, faces: float,
             length: float) -> np.ndarray:  # fmt: skip
        assert self._appearance is not None
        number = np.full(self._fine_size, -1, np.int16)
        along, across = np.zeros(self._fine_size), np.zeros(self._fine_size)
        for fragment in rasterize(body, t, self._fine_size):
            here = (fragment.rows, fragment.columns)
            number[here][fragment.visible] = fragment.n
            along[here][fragment.visible] = fragment.along[fragment.visible]
            across[here][fragment.visible] = fragment.across[fragment.visible]
        picture = self._room.with_shadow(_shadow(joints_J3))
        y, x = np.nonzero(number >= 0)
        n = number[y, x]
        axis = body.axis_TN2[t, n]
        axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
        offset = np.stack([x, y], axis=-1) - body.origin_TN2[t, n]
        down = (offset[:, 1] * axis[:, 0] - offset[:, 0] * axis[:, 1]) / length
        picture[y, x] = self._appearance.paint(n, along[y, x], across[y, x], down, axis, faces)
        # Box filter as a sum of slices: several times faster than a mean over two axes.
        starts = range(_SSAA)
        small = sum(picture[i::_SSAA, j::_SSAA] for i in starts for j in starts) / _SSAA**2
        return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _shadow(joints_J3: np.ndarray) -> np.ndarray:
    """Soft shadows (n, 4) on the floor: under the body, and under each foot near the floor."""
    hip = joints_J3[Joint.HIP]
    spots = [(hip[0], hip[2], 0.5, 0.45)]
    for foot in (joints_J3[Joint.L_FOOT], joints_J3[Joint.R_FOOT]):
        spots.append((foot[0], foot[2], 0.14, 0.45 * math.exp(-max(foot[1] - 0.08, 0.0) / 0.12)))
    return np.array(spots)
