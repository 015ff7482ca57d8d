"""Rasterization of capsule bodies to body part maps, with occlusion.

Independent of any drawing library's rounding: the map of mirrored joints is exactly the mirrored
map with left and right ids swapped.

Shapes: T frames, H rows, W columns, N capsules.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hvp.labels import Size
from hvp.worlds.body.capsules import Capsules


class Fragment(NamedTuple):
    """Rasterized pixels of one capsule, without those hidden by fragments before."""

    n: int
    """Index of the capsule."""
    rows: slice
    columns: slice
    """Window (h, w) of the image."""
    visible: np.ndarray
    """Visibility mask (h, w) bool."""
    along: np.ndarray
    """Coordinate along the capsule (h, w): 0 at its start, 1 at its end."""
    across: np.ndarray
    """Coordinate across the part (h, w), -1..1."""


def rasterize(body: Capsules, frame: int, size: Size) -> Iterator[Fragment]:
    """Rasterize the capsules of one frame in painter's order: later fragments cover earlier."""
    height, width = size
    start, end = body.start_TN2[frame].tolist(), body.end_TN2[frame].tolist()
    radius = body.radius_TN2[frame].tolist()
    origin, axis = body.origin_TN2[frame].tolist(), body.axis_TN2[frame].tolist()
    depth = None if body.depth_TN2 is None else body.depth_TN2[frame].tolist()
    nearest = None if depth is None else np.full(size, np.inf)
    for n in body.order_TN[frame].tolist():
        (x0, y0), (x1, y1), (r0, r1) = start[n], end[n], radius[n]
        left = max(int(np.ceil(min(x0 - r0, x1 - r1))), 0)
        right = min(int(max(x0 + r0, x1 + r1)) + 1, width)
        top = max(int(np.ceil(min(y0 - r0, y1 - r1))), 0)
        bottom = min(int(max(y0 + r0, y1 + r1)) + 1, height)
        if left >= right or top >= bottom:
            continue
        x, y = np.arange(left, right) - x0, (np.arange(top, bottom) - y0)[:, None]
        dx, dy = x1 - x0, y1 - y0
        squared = dx * dx + dy * dy
        along = (x * dx + y * dy) / max(squared, 1e-9)
        along = np.minimum(np.maximum(along, 0.0), 1.0)  # several times faster than np.clip
        reach = r0 + along * (r1 - r0)
        beyond = reach**2 - (x - along * dx) ** 2 - (y - along * dy) ** 2
        visible = beyond > 0
        rows, columns = slice(top, bottom), slice(left, right)
        if depth is not None and nearest is not None:
            z0, z1 = depth[n]
            surface = z0 + along * (z1 - z0) - np.sqrt(np.maximum(beyond, 0.0))
            visible &= surface < nearest[rows, columns]
            nearest[rows, columns][visible] = surface[visible]
        (ox, oy), (ax, ay) = origin[n], axis[n]
        across = (x + (x0 - ox)) * ax + (y + (y0 - oy)) * ay
        yield Fragment(n, rows, columns, visible, along, across)


def part_map(body: Capsules, frame: int, size: Size) -> np.ndarray:
    """Body part map (H, W) uint8 of one frame in DensePose classes; 0 is background."""
    painted = np.zeros(size, np.uint8)
    split, part = body.split_TN[frame].tolist(), body.part_TN2[frame].tolist()
    for fragment in rasterize(body, frame, size):
        below, above = part[fragment.n]
        ids = (
            below if below == above else np.where(fragment.across > split[fragment.n], above, below)
        )
        window = painted[fragment.rows, fragment.columns]
        np.copyto(window, ids, where=fragment.visible, casting="unsafe")
    return painted
