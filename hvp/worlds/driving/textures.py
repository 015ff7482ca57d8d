"""Texture atlas with mip maps: procedural textures of the driving world.

A texel holds four weights, one per palette colour of a surface; the surface colour is the weighted
sum. Row 0 is the lower edge of an upright surface. Textures repeat.

Shapes: N pixels, K = 4 palette colours.
"""

from enum import IntEnum
from functools import lru_cache

import numpy as np

SIZE = 64
"""Texture size in texels; a power of two."""
LEVELS = SIZE.bit_length()


class Texture(IntEnum):
    """Texture index in the atlas."""

    PLAIN = 0
    ASPHALT = 1
    PAVING = 2
    GRASS = 3
    LEAVES = 4
    HOUSE = 5
    FLATS = 6
    OFFICE = 7
    OLD = 8
    WALL = 9
    ROOF = 10
    FENCE = 11
    CAR_REAR = 12
    CAR_FRONT = 13
    CAR_SIDE = 14
    GLASS = 15
    BOX = 16
    BUS_SIDE = 17
    BUS_END = 18
    SIGN = 19
    LAMPS = 20
    CLOTHES = 21
    CLOUDS = 22


def _noise(rng: np.random.Generator, octaves: tuple[int, ...], spread: float) -> np.ndarray:
    """Periodic value noise (SIZE, SIZE), mean 0, standard deviation `spread`."""
    total = np.zeros((SIZE, SIZE))
    for cells in octaves:
        grid = rng.standard_normal((cells, cells))
        position = np.arange(SIZE) * cells / SIZE
        low = position.astype(int)
        part = position - low
        part = part * part * (3 - 2 * part)
        high = (low + 1) % cells
        rows = grid[low] * (1 - part)[:, None] + grid[high] * part[:, None]
        total += rows[:, low] * (1 - part) + rows[:, high] * part
    return total * (spread / total.std())


class _Canvas:
    """Canvas of palette weights of one texture; coordinates are fractions, y up."""

    def __init__(self, shade: np.ndarray | float = 0.0) -> None:
        self.mix = np.zeros((SIZE, SIZE, 4))
        self.mix[..., 0] = 1.0
        self.shade = 1.0 + np.broadcast_to(shade, (SIZE, SIZE))

    def rectangle(self, x0: float, x1: float, y0: float, y1: float, colour: int) -> None:
        rows = slice(round(y0 * SIZE), round(y1 * SIZE))
        columns = slice(round(x0 * SIZE), round(x1 * SIZE))
        self.mix[rows, columns] = np.eye(4)[colour]

    def disc(self, x: float, y: float, rx: float, ry: float, colour: int) -> None:
        centres = (np.arange(SIZE) + 0.5) / SIZE
        inside = ((centres - x) / rx) ** 2 + ((centres[:, None] - y) / ry) ** 2 < 1
        self.mix[inside] = np.eye(4)[colour]

    def blend(self, amount: np.ndarray, colour: int) -> None:
        """Alpha-blend a palette colour by `amount` (SIZE, SIZE), clipped to 0..1."""
        amount = np.clip(amount, 0, 1)[..., None]
        self.mix = self.mix * (1 - amount) + np.eye(4)[colour] * amount

    def weights(self) -> np.ndarray:
        return self.mix * self.shade[..., None]


def _windows(canvas: _Canvas, columns: int, rows: int, width: float, height: float,
             lit: tuple[tuple[int, int], ...] = ()) -> None:  # fmt: skip
    """Grid of framed windows: colour 1 glass, 2 frame, 3 (emissive) lit glass."""
    for column in range(columns):
        for row in range(rows):
            x, y = (column + 0.5) / columns, (row + 0.52) / rows
            half_x, half_y = width / columns / 2, height / rows / 2
            canvas.rectangle(x - half_x, x + half_x, y - half_y - 0.03, y + half_y, 2)
            glass = 3 if (column, row) in lit else 1
            edge = 1.2 / SIZE
            canvas.rectangle(
                x - half_x + edge, x + half_x - edge, y - half_y + edge, y + half_y - edge, glass
            )


def _draw() -> dict[Texture, np.ndarray]:
    """All textures at full resolution: palette weights (SIZE, SIZE, 4) each."""
    rng = np.random.default_rng(20211)
    canvases: dict[Texture, _Canvas] = {}

    def new(texture: Texture, octaves: tuple[int, ...], spread: float) -> _Canvas:
        canvases[texture] = _Canvas(_noise(rng, octaves, spread))
        return canvases[texture]

    new(Texture.PLAIN, (4, 8), 0.03)
    asphalt = new(Texture.ASPHALT, (4, 8, 16, 32), 0.10)
    asphalt.blend(_noise(rng, (3, 6), 0.5) - 0.3, 1)
    paving = new(Texture.PAVING, (4, 16), 0.05)
    for line in range(4):
        paving.rectangle(0, 1, line / 4, line / 4 + 1 / SIZE, 1)
        paving.rectangle(line / 4, line / 4 + 1 / SIZE, 0, 1, 1)
    new(Texture.GRASS, (8, 16, 32), 0.10).blend(_noise(rng, (4, 8, 16), 0.6), 1)
    leaves = new(Texture.LEAVES, (8, 16), 0.12)
    leaves.blend(_noise(rng, (4, 8, 16), 0.8), 1)
    leaves.blend(_noise(rng, (4, 8), 0.9) - 0.5, 2)

    _windows(new(Texture.HOUSE, (8, 32), 0.04), 2, 2, 0.42, 0.45, lit=((1, 1),))
    _windows(new(Texture.FLATS, (4, 32), 0.05), 3, 2, 0.5, 0.5, lit=((0, 1), (2, 0)))
    office = new(Texture.OFFICE, (4,), 0.03)
    for row in range(2):
        office.rectangle(0, 1, row / 2 + 0.14, row / 2 + 0.46, 1)
        for column in range(4):
            office.rectangle(column / 4, column / 4 + 2 / SIZE, row / 2 + 0.14, row / 2 + 0.46, 2)
    office.rectangle(0.28, 0.5, 0.64, 0.96, 3)
    old = new(Texture.OLD, (4, 16), 0.06)
    _windows(old, 3, 2, 0.34, 0.62, lit=((1, 0),))
    old.rectangle(0, 1, 0.0, 2.5 / SIZE, 2)
    old.rectangle(0, 1, 0.5, 0.5 + 2.5 / SIZE, 2)
    wall = new(Texture.WALL, (4, 16, 32), 0.07)
    for row in range(8):
        wall.rectangle(0, 1, row / 8, row / 8 + 1 / SIZE, 1)
    roof = new(Texture.ROOF, (4, 32), 0.07)
    for row in range(6):
        roof.rectangle(0, 1, row / 6, row / 6 + 1.5 / SIZE, 1)
    fence = new(Texture.FENCE, (4,), 0.02)
    for bar in range(8):
        fence.rectangle(bar / 8, bar / 8 + 0.05, 0, 1, 1)
    fence.rectangle(0, 1, 0.75, 0.85, 1)

    # Cars: colour 0 paint, 1 dark parts and glass, 2 plates and trim, 3 lights.
    rear = new(Texture.CAR_REAR, (4,), 0.03)
    rear.rectangle(0, 1, 0.0, 0.3, 1)
    rear.rectangle(0.34, 0.66, 0.34, 0.52, 2)
    rear.rectangle(0.03, 0.25, 0.55, 0.85, 3)
    rear.rectangle(0.75, 0.97, 0.55, 0.85, 3)
    front = new(Texture.CAR_FRONT, (4,), 0.03)
    front.rectangle(0, 1, 0.0, 0.25, 1)
    front.rectangle(0.28, 0.72, 0.45, 0.75, 1)
    front.rectangle(0.36, 0.64, 0.28, 0.42, 2)
    front.disc(0.14, 0.65, 0.11, 0.15, 3)
    front.disc(0.86, 0.65, 0.11, 0.15, 3)
    side = new(Texture.CAR_SIDE, (4,), 0.03)
    side.rectangle(0, 1, 0.0, 0.2, 1)
    side.rectangle(0.49, 0.51, 0.25, 0.95, 1)
    side.rectangle(0.0, 0.04, 0.55, 0.85, 3)
    for x in (0.2, 0.8):
        side.disc(x, 0.22, 0.105, 0.42, 1)
        side.disc(x, 0.2, 0.05, 0.2, 2)
    glass = new(Texture.GLASS, (4, 8), 0.06)
    glass.blend(np.full((SIZE, SIZE), 1.0), 1)
    glass.blend(np.linspace(-0.5, 0.35, SIZE)[:, None] * np.ones(SIZE), 2)
    for x in (0.0, 0.48, 0.95):
        glass.rectangle(x, x + 0.05, 0, 1, 0)
    box = new(Texture.BOX, (4, 8), 0.04)
    box.rectangle(0, 1, 0.0, 0.12, 1)
    box.rectangle(0.15, 0.85, 0.45, 0.72, 2)
    box.rectangle(0.02, 0.14, 0.13, 0.2, 3)
    box.rectangle(0.86, 0.98, 0.13, 0.2, 3)
    bus = new(Texture.BUS_SIDE, (4,), 0.03)
    bus.rectangle(0, 1, 0.0, 0.1, 1)
    for window in range(6):
        bus.rectangle(window / 6 + 0.015, (window + 1) / 6 - 0.015, 0.45, 0.88, 1)
    bus.rectangle(0, 1, 0.3, 0.38, 2)
    end = new(Texture.BUS_END, (4,), 0.03)
    end.rectangle(0, 1, 0.0, 0.1, 1)
    end.rectangle(0.08, 0.92, 0.48, 0.88, 1)
    end.rectangle(0.3, 0.7, 0.9, 0.98, 2)
    end.rectangle(0.04, 0.16, 0.16, 0.28, 3)
    end.rectangle(0.84, 0.96, 0.16, 0.28, 3)

    sign = new(Texture.SIGN, (4,), 0.02)
    sign.disc(0.5, 0.5, 0.38, 0.38, 1)
    sign.rectangle(0.3, 0.7, 0.42, 0.58, 2)
    lamps = new(Texture.LAMPS, (4,), 0.02)
    for row, colour in enumerate((3, 2, 1)):
        lamps.disc(0.5, (row + 0.5) / 3, 0.42, 0.16, colour)
    clothes = new(Texture.CLOTHES, (4, 8), 0.08)
    clothes.rectangle(0, 1, 0.0, 0.12, 1)
    clothes.rectangle(0.44, 0.56, 0.12, 1, 2)
    new(Texture.CLOUDS, (8,), 0.01).blend(_noise(rng, (2, 4, 8, 16), 0.55) + 0.1, 1)
    return {texture: canvas.weights() for texture, canvas in canvases.items()}


class Atlas:
    """Texture atlas with mip levels; a row holds the 2 x 2 texels of one bilinear sample."""

    def __init__(self) -> None:
        rows, starts, start = [], [], 0
        drawn = _draw()
        for texture in Texture:
            level = drawn[texture]
            for _ in range(LEVELS):
                right = np.roll(level, -1, axis=1)
                taps = np.stack(
                    [level, right, np.roll(level, -1, axis=0), np.roll(right, -1, axis=0)], axis=2
                )
                rows.append(taps.reshape(-1, 16))
                starts.append(start)
                start += len(rows[-1])
                if len(level) > 1:
                    n = len(level) // 2
                    level = level.reshape(n, 2, n, 2, 4).mean(axis=(1, 3))
        self._rows = np.concatenate(rows).astype(np.float32)
        self._starts = np.array(starts, np.int32)
        self._sizes = (SIZE >> np.arange(LEVELS)).astype(np.float32)

    def sample(
        self, texture_N: np.ndarray, u_N: np.ndarray, v_N: np.ndarray, footprint_N: np.ndarray
    ) -> np.ndarray:
        """Bilinear sampling: palette weights (K, N) float32 at (u, v), in texture periods.

        `footprint_N` is the pixel size in texture periods; it selects the mip level.
        """
        # floor(log2) from the float exponent: much cheaper than a logarithm.
        level = np.frexp(footprint_N * np.float32(SIZE * 0.75))[1]
        np.maximum(level, 0, out=level)
        np.minimum(level, LEVELS - 1, out=level)
        size = self._sizes.take(level)
        x = u_N * size - np.float32(0.5)
        y = v_N * size - np.float32(0.5)
        left, low = np.floor(x), np.floor(y)
        x -= left
        y -= low
        size = size.astype(np.int32)
        mask = size - 1
        row = low.astype(np.int32)
        row &= mask
        row *= size
        row += left.astype(np.int32) & mask
        row += self._starts.take(texture_N * LEVELS + level)
        both = x * y
        # Weights first: long contiguous rows are several times faster than tiny products.
        texels = np.ascontiguousarray(self._rows.take(row, axis=0).T).reshape(4, 4, -1)
        weights = texels[3] * both
        weights += texels[2] * (y - both)
        weights += texels[1] * (x - both)
        weights += texels[0] * (both + (1 - x - y))
        return weights


@lru_cache(maxsize=1)
def atlas() -> Atlas:
    """Shared texture atlas, rendered at first use (cached)."""
    return Atlas()
