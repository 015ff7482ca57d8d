"""Painting bodies as part maps: which pixel centres a capsule covers, and who hides whom.

Nothing depends on a drawing library's rounding: the map of mirrored joints is exactly the mirrored
map with left and right ids swapped.

Shapes: T frames, H rows, W columns, N capsules.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hvp.labels import Size
from hvp.worlds.body.capsules import Capsules


class Fragment(NamedTuple):
    """What one capsule covers of a picture and nothing painted before hides."""

    n: int
    """Number of the capsule."""
    rows: slice
    columns: slice
    """A window (h, w) of the picture."""
    visible: np.ndarray
    """(h, w) bool."""
    along: np.ndarray
    """(h, w) 0 at the capsule's start, 1 at its end."""
    across: np.ndarray
    """(h, w) coordinate across the part, -1..1."""


def rasterize(body: Capsules, frame: int, size: Size) -> Iterator[Fragment]:
    """The capsules of one frame; what comes later covers what came before."""
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
    """One frame as a part map (H, W) uint8 in the classes of DensePose; 0 is background."""
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
