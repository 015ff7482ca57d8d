"""Renderer: painter's algorithm to an id buffer, deferred shading, ground-truth optical flow.

Every surface is planar. Its homography G (3 x 3) maps texture (a, b, 1) to pixel (x, y, 1) * depth;
inv(G) maps a pixel to texture and 1 / depth, and G_before inv(G) to the pixel of the same point one
frame ago. Painting writes surface ids only; labels, colours and flow are looked up afterwards, for
all pixels at once.

Shapes: M polygons in view, S strips of ground, Q pixels.
"""

import math
from random import Random

import cv2
import numpy as np

from hvp.worlds.driving import shapes
from hvp.worlds.driving.camera import SHIFT, Camera, clip_near, fixed_point, inverse_3x3
from hvp.worlds.driving.ground import MATERIAL_LABEL, MATERIAL_TEXTURE, ROAD, TILE, Ground
from hvp.worlds.driving.road import Road
from hvp.worlds.driving.scene import Scene, View
from hvp.worlds.driving.settings import DrivingWorld
from hvp.worlds.driving.shapes import BRAKE_LIGHTS, LABEL
from hvp.worlds.driving.textures import Texture, atlas
from hvp.worlds.driving.traffic import Traffic
from hvp.worlds.driving.weather import Weather

_CLOUD_TILE = 900.0
"""Texture period of the clouds in metres."""
_SHADOW = 0.55
"""Darkness of vehicle shadows on the ground, 0..1."""


class Renderer:
    """Renderer of the current state of `Road` and `Traffic`, frame by frame."""

    def __init__(self, world: DrivingWorld, road: Road, traffic: Traffic, size: tuple[int, int],
                 random: Random) -> None:  # fmt: skip
        """Random weather and skyline, drawn from `random` once for the recording."""
        self.world, self.road, self.traffic, self.size = world, road, traffic, size
        self.weather = Weather.draw(random)
        self._scene = Scene(world, road, traffic, random)
        self._ground = Ground(world)
        self._camera: Camera | None = None
        height, width = size
        y, x = np.mgrid[:height, :width]
        self._x, self._y = x.ravel().astype(np.float32), y.ravel().astype(np.float32)

    def draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Next frame: labels (H, W) uint8, RGB (H, W, 3) uint8, backward flow (2, H, W) float32."""
        height, width = self.size
        camera = Camera.make(self.world, self.size, *self.traffic.camera())
        before = self._camera or camera
        first, self._camera = self._camera is None, camera
        ground, scene = self._ground, self._scene
        ground.update(self.road, self.traffic.ego.s)
        scene.update()
        view = scene.view(camera, before, self.size)
        ids, shadow = self._paint(camera, view)

        # Surfaces: 0 sky, 1 ground (all strips share its plane), then the polygons in view.
        corner = (math.floor(camera.x / TILE) * TILE, math.floor(camera.z / TILE) * TILE)
        planes = np.concatenate([self._planes(camera, corner), view.to_pixel])
        planes_before = np.concatenate([self._planes(before, corner), view.to_pixel_before])
        to_texture = inverse_3x3(planes)
        to_before = np.matmul(planes_before, to_texture)
        surface = ids - ground.count
        np.maximum(surface, np.minimum(ids, 1), out=surface)

        x, y = self._x, self._y
        h = to_texture.reshape(-1, 9).T.astype(np.float32).take(surface, axis=1)
        # At most 10 km: texture coordinates of polygons seen edge-on would overflow integers.
        depth = 1 / np.maximum(h[6] * x + h[7] * y + h[8], np.float32(1e-4))
        a, b = (h[0] * x + h[1] * y + h[2]) * depth, (h[3] * x + h[4] * y + h[5]) * depth
        # Pixel footprint in texture periods: the mean of its extents along x and y.
        footprint = np.abs(h[0] - a * h[6]) + np.abs(h[3] - b * h[6])
        footprint += np.abs(h[1] - a * h[7]) + np.abs(h[4] - b * h[7])
        footprint *= depth * np.float32(0.5)

        # Materials: 0 sky, then those of the ground, then the polygons in view.
        look = surface + (len(MATERIAL_LABEL) - 1) * (surface > 1)
        on_ground = np.flatnonzero(surface == 1)
        strip = ids[on_ground] - 1
        part, lateral = ground.road_coordinates(strip, a[on_ground], b[on_ground], *corner)
        material = ground.material(strip, lateral)
        look[on_ground] = 1 + material
        palette, texture, label = self._looks(view)
        weights = atlas().sample(texture.take(look), a, b, footprint)
        colours = palette.take(look, axis=1).reshape(4, 3, -1)
        rgb = colours[0] * weights[0]
        for k in (1, 2, 3):
            rgb += colours[k] * weights[k]

        on_road = np.flatnonzero((material == ROAD) & (strip > 0))
        chosen = on_ground[on_road]
        share, colour = ground.paint(
            strip[on_road], part[on_road], lateral[on_road], depth[chosen], camera.focal,
            self.traffic.ego.pose[3],
        )  # fmt: skip
        plain = rgb[:, chosen]
        colour *= self._daylight()[:, None]
        rgb[:, chosen] = plain + share * (colour - plain)
        rgb[:, np.flatnonzero(shadow * (surface == 1))] *= np.float32(1 - _SHADOW)

        clear = np.exp(depth * np.float32(-1 / self.weather.visibility))
        clear[surface == 0] **= np.float32(0.15)  # less haze in front of the sky
        haze = self.weather.haze.astype(np.float32)[:, None]
        rgb -= haze
        rgb *= clear
        rgb += haze
        np.maximum(rgb, 0, out=rgb)
        np.minimum(rgb, 255, out=rgb)

        flow = np.zeros((2, height * width), np.float32)
        if not first:
            m = to_before.reshape(-1, 9).T.astype(np.float32).take(surface, axis=1)
            scale = 1 / np.maximum(m[6] * x + m[7] * y + m[8], np.float32(1e-3))
            np.subtract((m[0] * x + m[1] * y + m[2]) * scale, x, out=flow[0])
            np.subtract((m[3] * x + m[4] * y + m[5]) * scale, y, out=flow[1])
        return (
            label.take(look).reshape(height, width),
            rgb.astype(np.uint8).T.copy().reshape(height, width, 3),
            flow.reshape(2, height, width),
        )

    def _planes(self, camera: Camera, corner: tuple[float, float]) -> np.ndarray:
        """Homographies (2, 3, 3) of the clouds, which follow the camera, and of the ground."""
        basis = np.zeros((2, 3, 3))
        basis[:, 0, 0] = basis[:, 2, 1] = _CLOUD_TILE, TILE
        basis[0, 1, 2] = self.world.cloud_height
        basis[1, :, 2] = corner[0] - camera.x, -self.world.camera_height, corner[1] - camera.z
        return np.matmul(camera.world_to_pixel, basis)

    # -- painting -------------------------------------------------------------------------------

    def _paint(self, camera: Camera, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Id buffer (H * W,): 0 sky, 1 terrain, strips, polygons; and mask of vehicle shadows."""
        height, width = self.size
        ids = np.zeros((height, width), np.int32)
        ids[max(0, math.floor(camera.horizon + 0.3) + 1) :] = 1
        strips = self._ground_outlines(camera, self._ground.outlines)
        row = -1
        for number in range(len(strips) - 1, -1, -1):
            if not len(strips[number]):
                continue
            # Far strips are thinner than a pixel: only the first that ends in a row is painted.
            ends = int(strips[number][:2, 1].max()) >> SHIFT
            if ends > row:
                cv2.fillConvexPoly(ids, strips[number], 2 + number, cv2.LINE_8, SHIFT)
                row = ends
        shadow = np.zeros((height, width), np.uint8)
        for outline in self._ground_outlines(camera, self._shadows()):
            if len(outline):
                cv2.fillConvexPoly(shadow, outline, 1, cv2.LINE_8, SHIFT)
        for number, outline in enumerate(view.outlines, start=2 + len(strips)):
            cv2.fillConvexPoly(ids, outline, number, cv2.LINE_8, SHIFT)
        return ids.ravel(), shadow.ravel()

    def _shadows(self) -> np.ndarray:
        """Corners of vehicle shadows on the ground (n, 4, 2), world (x, z)."""
        x, z, heading, half = self._scene.shadows().T[..., None]
        along = half * np.array([-1, -1, 1, 1])
        across = np.array([-0.95, 0.95, 0.95, -0.95])
        c, s = np.cos(heading), np.sin(heading)
        return np.stack([x + along * s + across * c, z + along * c - across * s], axis=2)

    def _ground_outlines(self, camera: Camera, corners: np.ndarray) -> list[np.ndarray]:
        """Pixel outlines of ground polygons (n, 4, 2), world (x, z); empty behind the camera."""
        matrix, near = camera.world_to_pixel, self.world.near
        points = (corners[..., 0, None] - camera.x) * matrix[:, 0]
        points += (corners[..., 1, None] - camera.z) * matrix[:, 2]
        points -= matrix[:, 1] * self.world.camera_height
        depth = points[..., 2]
        outlines = list(fixed_point(points[..., :2] / np.maximum(depth[..., None], near)))
        for k in np.flatnonzero((depth <= near).any(axis=1)).tolist():
            outlines[k] = fixed_point(clip_near(points[k], near))
        return outlines

    # -- colours ----------------------------------------------------------------------------------

    def _daylight(self) -> np.ndarray:
        """Irradiance (3,) of the ground, RGB factors."""
        weather = self.weather
        return (weather.ambient + weather.sunlight * weather.sun[1]).astype(np.float32)

    def _looks(self, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Materials of sky, ground and polygons: shaded palettes (4 * 3, .), textures, labels."""
        weather, scene, rows = self.weather, self._scene, view.rows
        (ux, uy, uz), (vx, vy, vz) = view.basis[:, :, 0].T, view.basis[:, :, 1].T
        nx, ny, nz = vy * uz - vz * uy, vz * ux - vx * uz, vx * uy - vy * ux
        facing = (nx * weather.sun[0] + ny * weather.sun[1] + nz * weather.sun[2]) / np.sqrt(
            nx * nx + ny * ny + nz * nz
        )
        light = weather.ambient + weather.sunlight * np.maximum(0, 0.25 + 0.75 * facing)[:, None]
        palette = scene.palette[rows]
        palette[:, :3] *= light[:, None]  # the fourth colour is emissive
        self._set_signals(palette, rows)
        ground = weather.ground * self._daylight()
        fixed = np.concatenate([[[weather.sky, weather.cloud]], ground])[:, [0, 1, 1, 1]]
        return (
            np.concatenate([fixed, palette]).astype(np.float32).reshape(-1, 12).T.copy(),
            np.concatenate([[Texture.CLOUDS], MATERIAL_TEXTURE, scene.texture[rows]]),
            np.concatenate([[LABEL["sky"]], MATERIAL_LABEL, scene.label[rows]]).astype(np.uint8),
        )

    def _set_signals(self, palette: np.ndarray, rows: np.ndarray) -> None:
        """Switch the emissive colours of brake lights and traffic lights, in place."""
        scene = self._scene
        signal = scene.signal[rows]
        for k in np.flatnonzero(signal != shapes.NO_SIGNAL).tolist():
            if signal[k] == BRAKE_LIGHTS:
                if scene.brakes(int(scene.body[rows[k]])):
                    palette[k, 3] = (255, 48, 36)
            else:
                state = self.road.light(int(signal[k]))
                palette[k, 1:] = ((60, 16, 14), (60, 48, 12), (10, 48, 22))
                palette[k, 3 - state] = ((60, 255, 130), (255, 206, 60), (255, 50, 40))[state]
