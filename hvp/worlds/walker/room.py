"""Background of the walker world: static camera, floor, wall, and shadows on the floor.

Shapes: H height, W width of the rendered image.
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np

from hvp.labels import Size
from hvp.worlds.walker.settings import WalkerWorld


@dataclass(frozen=True)
class StaticCamera:
    """Static pinhole camera, level, looking along z; pixel centres have integer coordinates."""

    focal: float
    """Focal length in pixels."""
    centre: tuple[float, float]
    """Principal point (x, y) in pixels."""
    height: float
    distance: float
    """Metres from the camera to the centre of the floor."""

    @staticmethod
    def make(world: WalkerWorld, size: Size, random: Random) -> "StaticCamera":
        """Random camera position; the centre of the floor has a fixed scale in the image."""
        distance = random.uniform(*world.distance)
        height = random.uniform(*world.camera_height)
        focal = min(size) * distance / world.view
        # The lens is shifted rather than the camera tilted, so that upright lines stay upright.
        shift = focal * (height - world.view_centre) / distance
        return StaticCamera(focal, ((size[1] - 1) / 2, (size[0] - 1) / 2 - shift), height, distance)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perspective projection of points (..., 3): pixels (..., 2) and depth (...) in metres."""
        depth = points[..., 2] + self.distance
        x = self.centre[0] + self.focal * points[..., 0] / depth
        y = self.centre[1] + self.focal * (self.height - points[..., 1]) / depth
        return np.stack([x, y], axis=-1), depth

    def enlarged(self, factor: int) -> "StaticCamera":
        """Camera of the same view at `factor` times the resolution."""
        x, y = ((c + 0.5) * factor - 0.5 for c in self.centre)
        return StaticCamera(self.focal * factor, (x, y), self.height, self.distance)


class Room:
    """Background image of a recording: floor and wall, rendered once."""

    def __init__(
        self, world: WalkerWorld, camera: StaticCamera, size: Size, random: Random
    ) -> None:
        """Render the room as `camera` sees it, at `size`."""
        noise = np.random.default_rng(random.getrandbits(32))
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
        right = (x - camera.centre[0]) / camera.focal
        down = (y - camera.centre[1]) / camera.focal
        wall_depth = camera.distance + random.uniform(*world.wall)
        wall_x, wall_y = right * wall_depth, camera.height - down * wall_depth
        self._is_floor = wall_y < 0
        depth = camera.height / np.maximum(down, 1e-6)
        self._floor_x = np.where(self._is_floor, right * depth, 1e3)
        self._floor_z = np.where(self._is_floor, depth - camera.distance, 1e3)
        wall = _wall(random, wall_x, wall_y)
        floor = _floor(random, self._floor_x, self._floor_z)
        picture = np.where(self._is_floor[..., None], floor, wall)
        # Light gradient from one side, and a dark corner (ambient occlusion).
        side = random.uniform(-0.12, 0.12) * right / max(float(np.abs(right).max()), 1e-6)
        corner = 0.22 * np.exp(-np.abs(np.where(self._is_floor, wall_depth - depth, wall_y)) / 0.3)
        picture *= (1.0 + side - corner)[..., None]
        self.picture = picture + noise.normal(0.0, 2.0, size)[..., None]
        """Background image (H, W, 3) float, 0..255."""
        self._rows = np.nonzero(self._is_floor.any(1))[0]

    def with_shadow(self, spots: np.ndarray) -> np.ndarray:
        """Background with soft shadows (n, 4): x, z, radius in metres, darkness 0..1."""
        picture = self.picture.copy()
        if not len(self._rows):
            return picture
        rows = slice(self._rows[0], self._rows[-1] + 1)
        x, z = self._floor_x[rows], self._floor_z[rows]
        light = np.ones_like(x)
        for at_x, at_z, radius, darkness in spots.tolist():
            squared = ((x - at_x) ** 2 + (z - at_z) ** 2) / radius**2
            light *= 1.0 - darkness / (1.0 + squared) ** 2
        picture[rows] *= light[..., None]
        return picture


def _colour(random: Random, low: float, high: float, tint: float) -> np.ndarray:
    """Random colour (3,), 0..255: grey level in low..high with some tint."""
    grey = random.uniform(low, high)
    return np.clip([grey * (1 + random.uniform(-tint, tint)) for _ in range(3)], 0, 255)


def _boxes(a: np.ndarray, b: np.ndarray, long: float, high: float, offset: float) -> np.ndarray:
    """Hash value 0..1 per brick, tile or board."""
    row = np.floor(b / high)
    column = np.floor(a / long + offset * row)
    return np.modf(np.abs(np.sin(row * 12.9898 + column * 78.233) * 43758.5453))[0]


def _joints(a: np.ndarray, b: np.ndarray, long: float, high: float, offset: float) -> np.ndarray:
    """Joint mask: 1 between bricks, tiles or boards, 0 inside of them."""
    row = np.floor(b / high)
    u, v = np.mod(a / long + offset * row, 1.0) * long, np.mod(b / high, 1.0) * high
    return ((np.minimum(u, long - u) < 0.012) | (np.minimum(v, high - v) < 0.012)).astype(float)


def _wall(random: Random, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Wall texture (H, W, 3), 0..255."""
    base, other = _colour(random, 110, 225, 0.1), _colour(random, 90, 220, 0.3)
    kind = random.choice(("plain", "stripes", "bricks", "panels"))
    if kind == "stripes":
        width = random.uniform(0.15, 0.5)
        amount = 0.5 * (np.mod(x / width, 1.0) < random.uniform(0.3, 0.6))
    elif kind == "bricks":
        amount = 0.35 * _boxes(x, y, 0.5, 0.22, 0.5) + 0.5 * _joints(x, y, 0.5, 0.22, 0.5)
    elif kind == "panels":
        amount = 0.75 * (y < random.uniform(0.8, 1.1)) + 0.25 * _joints(x, y, 0.8, 9.0, 0.0)
    else:
        amount = 0.15 * np.sin(x * 0.9 + random.uniform(0, 6)) + 0.1
    picture = base + amount[..., None] * (other - base)
    for _ in range(random.randint(0, 3)):  # picture frames on the wall
        left, low = random.uniform(-2.6, 2.0), random.uniform(1.1, 1.7)
        width, height = random.uniform(0.3, 0.9), random.uniform(0.3, 0.8)
        frame, inside = _colour(random, 20, 200, 0.4), _colour(random, 40, 240, 0.5)
        for colour, edge in ((frame, 0.0), (inside, 0.06)):
            here = (x > left + edge) & (x < left + width - edge)
            here &= (y > low + edge) & (y < low + height - edge)
            picture[here] = colour
    picture[(y > 0) & (y < 0.1)] = _colour(random, 40, 230, 0.1)  # the skirting board
    return picture


def _floor(random: Random, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Floor texture (H, W, 3), 0..255."""
    angle = random.choice((0.0, math.pi / 2, math.pi / 4))
    a, b = (
        math.cos(angle) * x + math.sin(angle) * z,
        math.cos(angle) * z - math.sin(angle) * x,
    )
    kind = random.choice(("boards", "tiles", "carpet", "chequers"))
    if kind == "boards":
        base, other = (
            np.array([168.0, 120, 74]) * random.uniform(0.6, 1.2),
            np.array([40.0, 26, 14]),
        )
        amount = 0.3 * _boxes(a, b, 1.6, 0.16, 0.37) + 0.4 * _joints(a, b, 1.6, 0.16, 0.37)
    elif kind == "tiles":
        base, other = _colour(random, 130, 210, 0.12), _colour(random, 40, 120, 0.1)
        amount = 0.12 * _boxes(a, b, 0.5, 0.5, 0.0) + 0.5 * _joints(a, b, 0.5, 0.5, 0.0)
    elif kind == "chequers":
        base, other = _colour(random, 150, 230, 0.1), _colour(random, 40, 110, 0.3)
        amount = np.mod(np.floor(a / 0.5) + np.floor(b / 0.5), 2.0)
    else:
        base, other = _colour(random, 60, 170, 0.35), _colour(random, 60, 200, 0.35)
        amount = 0.25 * _boxes(a, b, 0.07, 0.07, 0.0)
    return base + amount[..., None] * (other - base)
