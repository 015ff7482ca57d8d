"""Ground rendering: road strips, materials and lane markings, per pixel in road coordinates.

Shapes: S strips (row 0 is the terrain far from the road), Q ground pixels, L lane markings.
"""

from dataclasses import dataclass

import numpy as np

from hvp.worlds.driving.road import Profile, Road
from hvp.worlds.driving.settings import DrivingWorld
from hvp.worlds.driving.shapes import LABEL
from hvp.worlds.driving.textures import Texture

TILE = 8.0
"""Texture period on the ground in metres."""

ROAD, SIDEWALK, GRASS = 0, 1, 2
MATERIAL_LABEL = np.array([LABEL["road"], LABEL["sidewalk"], LABEL["terrain"]], np.uint8)
MATERIAL_TEXTURE = np.array([Texture.ASPHALT, Texture.PAVING, Texture.GRASS], np.int32)

_LINES = 3
_NOWHERE = 1e6
_WHITE, _YELLOW = (226.0, 226.0, 220.0), (214.0, 168.0, 52.0)
_PAINT_STRENGTH = 0.8


@dataclass(frozen=True)
class _Section:
    """Cross-section of one road strip, from left to right."""

    bounds: tuple[float, ...]
    """Lateral positions l of the six material boundaries."""
    materials: tuple[int, ...]
    """Materials of the seven bands between them."""
    lines: tuple[tuple[float, float, float], ...]
    """Lane markings: distance from the centre (on both sides), width, 1.0 = dashed."""
    yellow: bool
    zebra: float
    """1.0 on a zebra crossing."""
    stop: tuple[float, float]
    """Stop line: position along the strip (0..1), and side of the centre (+1, -1; 0 = none)."""


def _section(world: DrivingWorld, profile: Profile, kind: int, kind_after: int,
             kind_before: int) -> _Section:  # fmt: skip
    if kind >= 0:
        reach = world.ground_reach
        bounds = (-reach, -reach, -reach, reach, reach, reach)
        return _Section(bounds, (GRASS, *[ROAD] * 5, GRASS), (), False, 0.0, (0.0, 0.0))
    left, right = profile.edges(0), profile.edges(1)
    bounds = (-left[2], -left[1], -left[0], right[0], right[1], right[2])
    outer = SIDEWALK if profile.district.setback[1] < 2 else GRASS
    materials = (outer, SIDEWALK, GRASS, ROAD, GRASS, SIDEWALK, outer)
    if kind == -2:
        return _Section(bounds, materials, (), False, 1.0, (0.0, 0.0))
    edge = profile.lanes * world.lane_width
    lines = [(edge, 0.13, 0.0), (0.14, 0.12, 0.0) if profile.yellow else (0.0, 0.16, 1.0)]
    lines += [(lane * world.lane_width, 0.16, 1.0) for lane in range(1, profile.lanes)]
    stop = (0.8, 1.0) if kind_after == -2 else (0.2, -1.0) if kind_before == -2 else (0.0, 0.0)
    return _Section(bounds, materials, tuple(lines), profile.yellow, 0.0, stop)


class Ground:
    """Road strips in view range, and the materials and markings of ground pixels."""

    def __init__(self, world: DrivingWorld) -> None:
        self.world = world
        self._window = (-1, -1)

    def update(self, road: Road, s: float) -> None:
        """Update the strips to the view range: from a little behind s to the far distance."""
        world = self.world
        low = max(road.first, int(s / world.segment) - 1)
        high = int((s + world.far) / world.segment)
        if self._window == (low, high):
            return
        self._window = (low, high)
        first, last = low - road.first, high - road.first
        chain = slice(first, last + 1)
        x, z = np.array(road.x[chain]), np.array(road.z[chain])
        self._heading = np.array(road.heading[chain])
        c, s = np.cos(self._heading), np.sin(self._heading)
        middle, right = np.stack([x, z], axis=1), np.stack([c, -s], axis=1) * world.ground_reach
        left, right = middle - right, middle + right
        self.outlines = np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=1)
        """Corners of the strips (S, 4, 2), world (x, z)."""
        along = np.stack([s, c, -(x * s + z * c)], axis=1)
        across = np.stack([c, -s, -(x * c - z * s)], axis=1)
        rows = np.concatenate([along[:-1], along[1:], across[:-1], across[1:]], axis=1)
        plain = [[0, 0, 0, 0, 0, -1, 0, 0, _NOWHERE, 0, 0, _NOWHERE]]
        self._frame = np.concatenate([plain, rows]).reshape(-1, 4, 3)
        kinds = road.kinds
        sections = [
            _section(world, road.profiles[i], kinds[i], kinds[i + 1], kinds[max(i - 1, 0)])
            for i in range(first, last)
        ]
        # Modulo the dash period: small numbers keep float32 exact.
        s0 = (np.arange(low, high) * world.segment) % (world.dash[1] * 1e3)
        self._s = np.array([0.0, *s0], np.float32)
        self._bounds = np.full((6, len(sections) + 1), _NOWHERE, np.float32)
        self._materials = np.full((len(sections) + 1, 7), GRASS, np.int32)
        self._lines = np.zeros((3, _LINES, len(sections) + 1), np.float32)
        self._lines[0] = _NOWHERE
        self._flags = np.zeros((len(sections) + 1, 4), np.float32)
        for row, section in enumerate(sections, start=1):
            self._bounds[:, row] = section.bounds
            self._materials[row] = section.materials
            for line, values in enumerate(section.lines):
                self._lines[:, line, row] = values
            self._flags[row] = (section.yellow, section.zebra, *section.stop)

    @property
    def count(self) -> int:
        """Number of strips, without the terrain."""
        return len(self.outlines)

    def road_coordinates(self, strip_Q: np.ndarray, a_Q: np.ndarray, b_Q: np.ndarray, x0: float,
                         z0: float) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Road coordinates of ground points (a, b) * TILE from (x0, z0): position along the strip
        (0..1), and l.

        Inverse of `Road.at`: with signed distances d0 and d1 of a point to the cross-sections at
        both ends of its strip, the position is d0 / (d0 - d1).
        """
        frame = self._frame * (TILE, TILE, 1)
        frame[..., 2] += self._frame[..., 0] * x0 + self._frame[..., 1] * z0
        k = frame.astype(np.float32).reshape(-1, 12).T.take(strip_Q, axis=1)
        ahead = k[0] * a_Q + k[1] * b_Q + k[2]
        back = k[3] * a_Q + k[4] * b_Q + k[5]
        part = ahead / (ahead - back)
        near = k[6] * a_Q + k[7] * b_Q + k[8]
        far = k[9] * a_Q + k[10] * b_Q + k[11]
        return part, near + part * (far - near)

    def material(self, strip_Q: np.ndarray, l_Q: np.ndarray) -> np.ndarray:
        """Material index (Q,) of ground pixels."""
        code = strip_Q * 7
        for bound in self._bounds:
            code += l_Q > bound.take(strip_Q)
        return self._materials.ravel().take(code)

    def paint(self, strip_Q: np.ndarray, part_Q: np.ndarray, l_Q: np.ndarray, depth_Q: np.ndarray,
              focal: float, heading: float) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Lane markings: coverage (Q,) and colour (3, Q), anti-aliased over the pixel footprint."""
        world = self.world
        turn = np.concatenate([[0.0], self._heading[:-1] - heading]).astype(np.float32)
        one = depth_Q / np.float32(focal)
        # Pixel footprint on the ground: `one` wide, and one * depth / camera height long.
        stretch = depth_Q * np.float32(1 / world.camera_height)
        wide = one * (1 + stretch * np.abs(np.sin(turn)).take(strip_Q))
        long = one * (1 + stretch * np.cos(turn).take(strip_Q))
        s = self._s.take(strip_Q) + part_Q * np.float32(world.segment)

        dash, period = world.dash
        dashes = np.where(
            long > period, dash / period, _coverage(_distance_to_multiple(s, period), dash, long)
        )
        distance, share = np.abs(l_Q), np.zeros_like(l_Q)
        for where, broad, dashed in self._lines.transpose(1, 0, 2):
            line = np.abs(distance - where.take(strip_Q))
            thick = broad.take(strip_Q)
            cover = (thick + wide) * np.float32(0.5) - line
            np.minimum(cover, np.minimum(thick, wide), out=cover)
            cover *= 1 + dashed.take(strip_Q) * (dashes - 1)
            np.maximum(share, cover, out=share)
        share /= wide

        special = np.flatnonzero(self._flags[:, 1:].any(axis=1).take(strip_Q))
        if len(special):
            f, p = self._flags.take(strip_Q[special], axis=0), part_Q[special]
            lateral = l_Q[special]
            w, g = wide[special], long[special] / np.float32(world.segment)
            stripes = np.where(w > 1.0, 0.5, _coverage(_distance_to_multiple(lateral, 1.0), 0.5, w))
            stripes *= f[:, 1] * _coverage(np.abs(p - 0.5), 0.75, g)
            stop = _coverage(np.abs(p - f[:, 2]), 0.1, g) * (lateral * f[:, 3] > 0.2)
            share[special] = np.maximum(share[special], np.maximum(stripes, stop))
        centre = self._flags[:, 0].take(strip_Q) * (distance < 0.6)
        white, yellow = np.array([_WHITE, _YELLOW], np.float32)[..., None]
        return share * np.float32(_PAINT_STRENGTH), white + centre * (yellow - white)


def _distance_to_multiple(value: np.ndarray, period: float) -> np.ndarray:
    """Distance to the nearest multiple of `period`."""
    return np.abs(value - period * np.rint(value * (1 / period)))


def _coverage(distance: np.ndarray, width: float, pixel: np.ndarray) -> np.ndarray:
    """Coverage of a pixel (0..1) by a band of `width`, `distance` from the band's middle."""
    cover = np.minimum((width + pixel) * 0.5 - distance, np.minimum(width, pixel))
    return np.maximum(cover, 0) / pixel
