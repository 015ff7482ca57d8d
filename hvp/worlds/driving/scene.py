"""Scene of textured polygons (patches): frustum culling and depth sorting for one camera.

Shapes: N patches in range, C candidates, M in view (far to near), K = 8 corners, B bodies.
"""

import math
from dataclasses import dataclass
from functools import reduce
from random import Random

import numpy as np

from hvp.worlds.driving import shapes
from hvp.worlds.driving.camera import Camera, clip_near, fixed_point, pose_matrices
from hvp.worlds.driving.road import ITEM, Road
from hvp.worlds.driving.settings import DrivingWorld
from hvp.worlds.driving.textures import Texture
from hvp.worlds.driving.traffic import Traffic

_FIRST_BODY = 2
"""Index of the first moving body: 0 is the world, 1 the sky; vehicles and then people follow."""
_BACKDROP = 1e12
"""Depth-sort key of the skyline, which is painted first."""


@dataclass(frozen=True)
class View:
    """Patches in view of one frame, depth-sorted from far to near."""

    rows: np.ndarray
    """Rows (M,) of the scene's table."""
    outlines: list[np.ndarray]
    """Pixel outlines, each (n, 2) int32 in OpenCV's fixed-point format."""
    basis: np.ndarray
    """Patch bases (M, 3, 3): columns u, v, origin; world axes, relative to the camera."""
    to_pixel: np.ndarray
    """Homographies (M, 3, 3) from (a, b, 1) on the patch to this frame's (x, y, 1) * depth."""
    to_pixel_before: np.ndarray
    """Homographies of the previous frame, likewise."""


def _skyline(world: DrivingWorld, random: Random) -> np.ndarray:
    """Skyline: distant trees and houses at infinity; they follow the camera's position."""
    distance, azimuth, cells = world.skyline_distance, -1.9, []
    while azimuth < 1.9:
        step = random.uniform(0.04, 0.12)
        c, s = math.cos(azimuth), math.sin(azimuth)
        high, wide = random.uniform(*world.skyline), distance * step * 1.3
        label, texture = "vegetation", Texture.LEAVES
        colours = shapes.leaf_colours(random)
        top = [(0.0, 0.0), (1.0, 0.0), (1.0, 0.45), (0.75, 0.9), (0.45, 1.0), (0.15, 0.8), (0, 0.4)]
        if random.random() < 0.3:
            label, texture = "building", Texture.OFFICE
            colours = [(118.0, 120.0, 126.0), (84.0, 88.0, 96.0)]
            top = [(0.2, 0.0), (0.8, 0.0), (0.8, 1.0), (0.2, 1.0)]
        corner = (distance * s - c * wide / 2, -4.0, distance * c + s * wide / 2)
        u, v = (c * wide, 0, -s * wide), (0, high + 4.0, 0)
        cells.append(shapes.patch(label, corner, u, v, colours, texture, top, body=1))
        azimuth += step
    return shapes.concat(cells)


class Scene:
    """Scene: table of all patches in range of the camera."""

    def __init__(self, world: DrivingWorld, road: Road, traffic: Traffic, random: Random) -> None:
        """Random skyline, drawn from `random` once for the recording."""
        self.world, self.road, self.traffic = world, road, traffic
        self._skyline = _skyline(world, random)
        self._bins = (-1, -1)

    def update(self) -> None:
        """Rebuild the table when the range has moved on, or vehicles or people came or went."""
        s, traffic = self.traffic.ego.s, self.traffic
        bins = (int((s - 14) // Road.BIN), int((s + self.world.far) // Road.BIN))
        if bins == self._bins and not traffic.changed:
            return
        if bins != self._bins:
            self._bins = bins
            scenery, self._still = self.road.scenery(bins[0] * Road.BIN, bins[1] * Road.BIN)
            self._scenery = shapes.concat(scenery)
            self._scenery["item"] += 1  # item 0 is the skyline
        parts = [self._skyline, self._scenery]
        item, body = len(self._still) + 1, _FIRST_BODY
        for vehicle in traffic.vehicles:
            vehicle.patches["item"], vehicle.patches["body"] = item, body
            parts.append(vehicle.patches)
            item, body = item + 1, body + 1
        for person in traffic.people:
            for patches in person.bodies:
                patches["item"], patches["body"] = item, body
                parts.append(patches)
                body += 1
            item += 1
        traffic.changed = False
        table = shapes.concat(parts)
        # Columns are copied: strided access to records costs more on every frame.
        self._basis = np.stack([table["u"], table["v"], table["origin"]], axis=2)
        corners = table["corners"]
        self._corners = corners.astype(np.float32).transpose(2, 1, 0)[:, :, None].copy()
        reach = self._basis[:, :, 0, None] * corners[:, None, :, 0]
        reach += self._basis[:, :, 1, None] * corners[:, None, :, 1]
        self._radius = np.sqrt((reach**2).sum(axis=1).max(axis=1))
        self._n, self._one_sided = table["n"].copy(), table["one_sided"].copy()
        self._smallest = table["smallest"].copy()
        self._item, self.body = table["item"].copy(), table["body"].copy()
        self.label, self.texture = table["label"].copy(), table["texture"].copy()
        self.palette, self.signal = table["palette"].copy(), table["signal"].copy()

    def brakes(self, body: int) -> bool:
        """Whether the brake lights of a body are on; always off for static bodies."""
        return body >= _FIRST_BODY and self.traffic.vehicles[body - _FIRST_BODY].brake_lights

    def _bodies(self, camera: Camera, before: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Body transforms of this and the previous frame: linear (2, B, 3, 3), shift (2, B, 3)."""
        now: list[tuple[float, ...]] = [(0.0,) * 6, (camera.x, 0.0, camera.z, 0.0, 0.0, 0.0)]
        old: list[tuple[float, ...]] = [(0.0,) * 6, (before.x, 0.0, before.z, 0.0, 0.0, 0.0)]
        for vehicle in self.traffic.vehicles:
            now.append(vehicle.pose)
            old.append(vehicle.old_pose or vehicle.pose)
        for person in self.traffic.people:
            now += person.poses
            old += person.old_poses or person.poses
        linear, place = pose_matrices(now + old)
        return linear.reshape(2, -1, 3, 3), place.reshape(2, -1, 3)

    def _place(self, camera: Camera, linear: np.ndarray, place: np.ndarray, basis: np.ndarray,
               body: np.ndarray) -> None:  # fmt: skip
        """Transform patch bases from body to camera-relative coordinates, in place."""
        moving = np.flatnonzero(body)
        body = body[moving]
        moved = np.matmul(linear[body], basis[moving])
        moved[:, :, 2] += place[body]
        basis[moving] = moved
        basis[:, :, 2] -= (camera.x, self.world.camera_height, camera.z)

    def _items(self) -> np.ndarray:
        """`ITEM`s of the skyline, the static scenery, vehicles and people."""
        traffic = self.traffic
        rows: list[tuple[float | bool, ...]] = [(_BACKDROP, *(0.0,) * 6, False)]
        for v in traffic.vehicles:
            reach = v.length / 2 if v.direction else 1.0
            rows.append(
                (v.s, v.s - reach, v.s + reach, v.lateral, v.pose[0], v.pose[2], v.pose[3], True)
            )
        for p in traffic.people:
            rows.append((p.s, p.s - 0.2, p.s + 0.2, p.lateral, 0.0, 0.0, 0.0, True))
        moving = np.array(rows, ITEM)
        columns = np.empty(len(moving) + len(self._still), ITEM)
        columns[0] = moving[0]
        columns[1 : 1 + len(self._still)] = self._still
        columns[1 + len(self._still) :] = moving[1:]
        return columns

    def _order(self, items: np.ndarray) -> np.ndarray:
        """Depth-sort key of each item: s, painted in falling order, far to near.

        Of two items beside each other, the one farther from the camera's line is painted first: a
        ray from the camera never turns back towards the road.
        """
        key = items["key"].copy()
        here, lateral = self.traffic.ego.s, self.traffic.ego.lateral
        close = items["solid"] & (items["s0"] < here + 60) & (items["s1"] > here - 5)
        solid = np.flatnonzero(close)
        s0, s1, k = items["s0"][solid], items["s1"][solid], key[solid]
        outward = items["l"][solid] - lateral
        beside = (s0[:, None] < s1) & (s1[:, None] > s0)
        beside &= (outward[:, None] * outward > 0) & (np.abs(outward)[:, None] < np.abs(outward))
        inner, outer = np.nonzero(beside)
        for _ in range(2):  # twice: a moved item may have to move another
            np.minimum.at(k, inner, k[outer] - 1e-3)
        key[solid] = k
        return key

    def shadows(self) -> np.ndarray:
        """Shadow casters: nearby vehicles, rows (x, z, heading, half length)."""
        here = self.traffic.ego.s
        items = self._current
        chosen = items["solid"] & (items["s1"] - items["s0"] > 1.9)
        chosen &= (items["s1"] > here) & (items["s0"] < here + 45)
        found = items[chosen]
        half = (found["s1"] - found["s0"]) / 2
        return np.stack([found["x"], found["z"], found["heading"], half], axis=1)

    def view(self, camera: Camera, before: Camera, size: tuple[int, int]) -> View:
        """Visible patches, and their homographies in this and the previous frame."""
        world, (height, width) = self.world, size
        self._current = self._items()
        key = self._order(self._current)[self._item]

        # Frustum culling by bounding spheres around the patches' origins.
        linear, place = self._bodies(camera, before)
        basis = self._basis.copy()
        self._place(camera, linear[0], place[0], basis, self.body)
        x, y, depth = camera.world_to_pixel @ basis[:, :, 2].T
        margin = self._radius * (width + height)
        possible = (depth + self._radius > world.near) & (
            (key < self.traffic.ego.s + world.far) | (key == _BACKDROP)
        )
        reach = np.maximum(depth, 0)
        possible &= (x + margin > 0) & (x - margin < reach * width)
        possible &= (y + margin > 0) & (y - margin < reach * height)
        possible &= self._radius * (2.5 * camera.focal) > reach * self._smallest
        rows = np.flatnonzero(possible)

        to_pixel = camera.world_to_pixel @ basis[rows].transpose(1, 0, 2).reshape(3, -1)
        to_pixel = to_pixel.reshape(3, -1, 3)
        # Columns first and contiguous: the operations below then run over long rows of memory.
        g = np.ascontiguousarray(to_pixel.transpose(2, 0, 1), np.float32)
        u, v = self._corners[..., rows]
        corners = g[0] * u + g[1] * v + g[2]  # (K, 3, C)
        depths = corners[:, 2:]
        pixels = corners[:, :2] / np.maximum(depths, np.float32(world.near))
        low, high = reduce(np.minimum, pixels), reduce(np.maximum, pixels)
        seen = (depths.max(axis=0)[0] > world.near) & (high[0] > -0.5) & (high[1] > -0.5)
        seen &= (low[0] < width - 0.5) & (low[1] < height - 0.5)
        seen &= (high - low).max(axis=0) > self._smallest[rows]
        a, b, c = to_pixel.transpose(2, 0, 1)
        turned = (
            a[0] * (b[1] * c[2] - b[2] * c[1])
            - a[1] * (b[0] * c[2] - b[2] * c[0])
            + a[2] * (b[0] * c[1] - b[1] * c[0])
        )
        seen &= (turned < 0) | ~self._one_sided[rows]
        chosen = np.flatnonzero(seen)
        chosen = chosen[np.argsort(-key[rows[chosen]], kind="stable")]
        rows = rows[chosen]

        fixed = np.ascontiguousarray(fixed_point(pixels[:, :, chosen]).transpose(2, 0, 1))
        outlines = [fixed[k, :n] for k, n in enumerate(self._n[rows].tolist())]
        for k in np.flatnonzero(depths[:, 0, chosen].min(axis=0) <= world.near).tolist():
            outline = corners[: self._n[rows[k]], :, chosen[k]]
            outlines[k] = fixed_point(clip_near(outline, world.near))

        old = self._basis[rows]
        self._place(before, linear[1], place[1], old, self.body[rows])
        return View(
            rows, outlines, basis[rows], to_pixel[:, chosen].transpose(1, 0, 2),
            np.matmul(before.world_to_pixel, old),
        )  # fmt: skip
