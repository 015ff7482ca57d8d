"""Meshes of the driving world: objects made of planar, textured, convex polygons (patches).

Object coordinates: x right, y up, z forward (along the road), origin on the ground; a "near" side
faces back along -z, towards the camera behind it. A patch is the set of points
origin + a * u + b * v with (a, b) in a convex polygon of up to 8 corners; (a, b) are also the
texture coordinates, in texture periods.
"""

import math
from collections.abc import Sequence
from random import Random

import numpy as np

from hvp.labels import CITYSCAPES
from hvp.worlds.driving.settings import District, DrivingWorld, VehicleKind
from hvp.worlds.driving.textures import Texture

LABEL = {name: index for index, name in enumerate(CITYSCAPES.classes)}

Colour = tuple[float, float, float]

NO_SIGNAL, BRAKE_LIGHTS = -1, -2

PATCH = np.dtype([
    ("origin", "f8", 3), ("u", "f8", 3), ("v", "f8", 3),
    ("corners", "f8", (8, 2)), ("n", "i4"),
    ("label", "u1"), ("texture", "i4"), ("palette", "f4", (4, 3)),
    ("one_sided", "?"),   # back-face culling: for closed bodies
    ("signal", "i4"),     # NO_SIGNAL, BRAKE_LIGHTS or the number of a crossing's traffic light
    ("body", "i4"),       # which pose moves it; 0 = the world, 1 = the sky (moves with the camera)
    ("smallest", "f4"),   # level of detail: not drawn below this extent in pixels
    ("item", "i4"),       # object it belongs to, for depth sorting
])  # fmt: skip

_SQUARE = ((0, 0), (1, 0), (1, 1), (0, 1))
_DISC = tuple((math.cos(k * math.pi / 4 + 0.4), math.sin(k * math.pi / 4 + 0.4)) for k in range(8))


def patch(
    label: str,
    origin: Sequence[float],
    u: Sequence[float],
    v: Sequence[float],
    palette: Sequence[Colour],
    texture: Texture = Texture.PLAIN,
    corners: Sequence[tuple[float, float]] = _SQUARE,
    one_sided: bool = False,
    signal: int = NO_SIGNAL,
    body: int = 0,
    smallest: float = 1.2,
) -> np.ndarray:
    """Textured convex polygon, (1,) of `PATCH`; a short palette is padded with its last colour."""
    outline = (*corners, *([corners[-1]] * (8 - len(corners))))
    colours = (*palette, *([palette[-1]] * (4 - len(palette))))
    return np.array(
        [(origin, u, v, outline, len(corners), LABEL[label], texture, colours, one_sided, signal,
          body, smallest, 0)], PATCH
    )  # fmt: skip


def concat(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate `PATCH` arrays; as raw bytes, because NumPy compares record fields every time."""
    raw = np.dtype((np.void, PATCH.itemsize))
    return np.concatenate([np.zeros(0, raw), *(part.view(raw) for part in parts)]).view(PATCH)


def to_world(patches: np.ndarray, x: float, z: float, heading: float) -> np.ndarray:
    """Copy of patches, transformed from object to world coordinates."""
    c, s = math.cos(heading), math.sin(heading)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    placed = patches.copy()
    for name in ("origin", "u", "v"):
        placed[name] = patches[name] @ turn.T
    placed["origin"] += (x, 0, z)
    return placed


def _vary(random: Random, colour: Colour, spread: float = 14.0) -> Colour:
    shift = random.uniform(-spread, spread)
    r, g, b = (min(255.0, max(0.0, c + shift + random.uniform(-4, 4))) for c in colour)
    return r, g, b


def _billboard(label: str, x: float, y: float, z: float, half_width: float, half_height: float,
          palette: Sequence[Colour], texture: Texture, repeat: float = 1.0,
          smallest: float = 1.2) -> np.ndarray:  # fmt: skip
    """Billboard: upright ellipse across the road; `repeat` is the texture period in metres."""
    corners = [(cx * half_width / repeat, cy * half_height / repeat) for cx, cy in _DISC]
    u, v = (repeat, 0, 0), (0, repeat, 0)
    return patch(label, (x, y, z), u, v, palette, texture, corners, smallest=smallest)


def pole(x: float, z: float, height: float, width: float, colour: Colour) -> np.ndarray:
    """Pole: thin upright rectangle."""
    u, v = (width, 0, 0), (0, height, 0)
    colours = [colour, (60.0, 60.0, 60.0)]
    return patch("pole", (x - width / 2, 0, z), u, v, colours, Texture.CLOTHES, smallest=2)


_LEAVES: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((88, 122, 52), (52, 84, 34), (124, 150, 74)),
    ((70, 108, 58), (38, 70, 38), (100, 136, 80)),
    ((120, 126, 54), (84, 92, 36), (156, 150, 70)),
    ((132, 96, 46), (92, 66, 34), (170, 128, 62)),
)


def leaf_colours(random: Random) -> list[Colour]:
    """Random foliage palette: three colours of one plant."""
    chosen = _LEAVES[min(int(random.random() * 4.4), 3)]
    return [_vary(random, colour) for colour in chosen]


def tree(random: Random, world: DrivingWorld) -> np.ndarray:
    """Tree: a trunk and a crown of three billboards, one behind the other."""
    height = random.uniform(*world.tree_height)
    crown, low = height * random.uniform(0.30, 0.38), height * random.uniform(0.26, 0.36)
    half, middle = (height - low) / 2, (height + low) / 2
    leaves = leaf_colours(random)
    darker: list[Colour] = [(r * 0.8, g * 0.8, b * 0.8) for r, g, b in leaves]
    trunk = random.uniform(0.22, 0.38)
    bark = [_vary(random, (84, 66, 50)), (50, 40, 32)]
    shift = random.uniform(-0.3, 0.3)
    cards = [
        _billboard("vegetation", -shift, middle, 0.8, crown * 0.92, half * 0.92, darker,
                   Texture.LEAVES, 3, smallest=6),
        patch("vegetation", (-trunk / 2, 0, 0), (trunk, 0, 0), (0, middle, 0), bark,
              Texture.CLOTHES, smallest=2.5),
        _billboard("vegetation", shift, middle - 0.1 * half, -0.3, crown * 0.9, half * 0.86,
                   leaves, Texture.LEAVES, 3),
        _billboard("vegetation", -shift * 0.6, middle + 0.28 * half, -0.9, crown * 0.62,
                   half * 0.58, leaves, Texture.LEAVES, 2.5, smallest=6),
    ]  # fmt: skip
    return concat(cards)


def bush(random: Random) -> np.ndarray:
    """Bush: a low billboard of leaves."""
    radius = random.uniform(0.7, 1.6)
    return _billboard("vegetation", 0, radius * 0.6, 0, radius, radius * 0.8, leaf_colours(random),
                 Texture.LEAVES, 2)  # fmt: skip


def lamp(side: int) -> np.ndarray:
    """Street lamp with an arm over the road from `side` (+1 right, -1 left)."""
    grey: Colour = (112, 114, 112)
    arm = patch("pole", (0, 6.2, 0), (-side * 1.8, 0.35, 0), (0, 0.14, 0), [grey])
    return concat([pole(0, 0, 6.3, 0.16, grey), arm])


_SIGNS: tuple[tuple[Colour, Colour, Colour], ...] = (
    ((200, 30, 36), (240, 240, 236), (30, 30, 30)),
    ((36, 84, 170), (52, 104, 190), (240, 240, 240)),
    ((238, 196, 30), (240, 206, 60), (30, 30, 30)),
    ((200, 30, 36), (196, 40, 44), (244, 244, 240)),
)


def sign(random: Random) -> np.ndarray:
    """Traffic sign on a pole."""
    radius, middle = random.uniform(0.36, 0.5), random.uniform(2.3, 2.8)
    size = 2 * radius
    shape = random.choice((
        [(0.5 + 0.5 * x, 0.5 + 0.5 * y) for x, y in _DISC],
        [(0.0, 0.1), (1.0, 0.1), (0.5, 1.0)],
        list(_SQUARE),
    ))  # fmt: skip
    plate = patch(
        "traffic sign", (-radius, middle - radius, -0.05), (size, 0, 0), (0, size, 0),
        random.choice(_SIGNS), Texture.SIGN, shape,
    )  # fmt: skip
    return concat([pole(0, 0, middle, 0.1, (130, 132, 134)), plate])


def traffic_light(number: int, side: int, over_road: float) -> np.ndarray:
    """Traffic light: mast with a lamp box beside the road; if `over_road` > 0, also one above."""
    grey: Colour = (86, 90, 92)
    dark: Colour = (26, 28, 28)
    parts = [pole(0, 0, 5.2 if over_road else 2.6, 0.16, grey)]
    boxes = [(-0.24, 2.3, 0.48, 1.25)]
    if over_road:
        reach = -side * over_road
        parts.append(patch("pole", (0, 5.0, 0), (reach, 0, 0), (0, 0.16, 0), [grey]))
        boxes.append((reach - 0.3, 4.3, 0.6, 1.5))
    for x, y, width, height in boxes:
        parts.append(
            patch("traffic light", (x, y, -0.1), (width, 0, 0), (0, height, 0), [dark],
                  Texture.LAMPS, signal=number)
        )  # fmt: skip
    return concat(parts)


_WALLS: tuple[Colour, ...] = (
    (178, 160, 134), (150, 84, 66), (196, 188, 172), (122, 118, 112), (202, 178, 124),
    (134, 102, 82), (168, 172, 178), (212, 206, 196), (108, 74, 62), (160, 140, 150),
)  # fmt: skip
_GLASS: tuple[Colour, ...] = ((50, 60, 72), (70, 88, 104), (38, 42, 50), (92, 108, 116))
_LIT: Colour = (222, 196, 140)


def _facade_palette(random: Random) -> list[Colour]:
    frame = random.choice(((226, 222, 212), (96, 84, 72), (60, 60, 62), (200, 190, 170)))
    lit = _LIT if random.random() < 0.4 else random.choice(_GLASS)
    return [_vary(random, random.choice(_WALLS)), random.choice(_GLASS), frame, lit]


def building(random: Random, world: DrivingWorld, district: District, side: int,
             length: float) -> np.ndarray:  # fmt: skip
    """Building: facade in the plane x = 0, z = -length/2..length/2, body at side * x > 0."""
    floors = random.randint(*district.floors)
    gabled = random.random() < district.gabled and floors <= 3
    height = floors * world.floor_height + random.uniform(-0.3, 0.9)
    depth = world.building_depth
    colours = _facade_palette(random)
    style = random.choice((Texture.HOUSE, Texture.FLATS, Texture.OLD, Texture.WALL) if gabled else (
        Texture.HOUSE, Texture.FLATS, Texture.OFFICE, Texture.OLD
    ))  # fmt: skip
    # Two storeys per texture period, and a whole number of windows along the facade.
    up = height / max(1, round(floors / 2)) if floors > 1 else 2 * height
    along = length / max(1, round(length / random.uniform(5.5, 8.0)))
    # Winding order: seen from outside, u runs right and v runs up.
    if side > 0:
        facade_from, facade_u = (0.0, 0.0, length / 2), (0.0, 0.0, -along)
        gable_from = (0.0, 0.0, -length / 2)
    else:
        facade_from, facade_u = (0.0, 0.0, -length / 2), (0.0, 0.0, along)
        gable_from = (-depth, 0.0, -length / 2)
    top = height / up
    wall = [(0.0, 0.0), (length / along, 0.0), (length / along, top), (0.0, top)]
    gable = [(0.0, 0.0), (depth / 6, 0.0), (depth / 6, top), (0.0, top)]
    ridge = random.uniform(2.0, 3.6)
    if gabled:
        gable = [*gable[:3], (depth / 12, top + ridge / up), gable[3]]
    end_style = random.choice((Texture.WALL, style))
    parts = [
        patch("building", gable_from, (6, 0, 0), (0, up, 0), colours, end_style, gable, True),
        patch("building", facade_from, facade_u, (0, up, 0), colours, style, wall, True),
    ]
    if gabled:
        tiles = random.choice(((128, 62, 46), (92, 84, 80), (110, 76, 58)))
        dark = (tiles[0] * 0.75, tiles[1] * 0.75, tiles[2] * 0.75)
        eave = (facade_from[0], height, facade_from[2])
        parts.append(
            patch("building", eave, facade_u, (side * depth / 2, ridge, 0), [tiles, dark],
                  Texture.ROOF, [(0, 0), (length / along, 0), (length / along, 1), (0, 1)])
        )  # fmt: skip
    elif random.random() < 0.5:
        awning: Colour = random.choice(((150, 40, 40), (40, 80, 120), (60, 100, 70)))
        shop = [_vary(random, awning), *_GLASS[:3]]
        band = patch("building", facade_from, facade_u, (0, world.floor_height, 0), shop,
                     Texture.OFFICE, [(0, 0), (length / along, 0), (length / along, 0.9), (0, 0.9)],
                     True)  # fmt: skip
        parts.append(band)
    return concat(parts)


def barrier(random: Random, kind: str, length: float) -> np.ndarray:
    """Fence, wall or hedge along the road, in the plane x = 0."""
    u: Sequence[float] = (0, 0, 3.0)
    repeats = length / 3.0
    if kind == "hedge":
        height, texture, colours, label = 1.3, Texture.LEAVES, leaf_colours(random), "vegetation"
    elif kind == "wall":
        height, texture, label = random.uniform(1.2, 2.4), Texture.WALL, "wall"
        colours = [_vary(random, random.choice(_WALLS)), (90, 84, 78)]
    else:
        height, texture, label = random.uniform(1.0, 1.6), Texture.FENCE, "fence"
        colours = [_vary(random, (150, 132, 104)), (88, 74, 58)]
    corners = [(0, 0), (repeats, 0), (repeats, 1), (0, 1)]
    return patch(label, (0, 0, -length / 2), u, (0, height, 0), colours, texture, corners)


_PAINTS: tuple[Colour, ...] = (
    (34, 36, 40), (206, 208, 210), (150, 154, 158), (96, 100, 106), (40, 62, 112),
    (150, 28, 30), (226, 226, 222), (58, 84, 66), (184, 150, 96), (70, 120, 170), (200, 120, 40),
)  # fmt: skip


def _box(label: str, x: float, y0: float, y1: float, z0: float, z1: float, palette: list[Colour],
         near: Texture, far: Texture, side: Texture, top: bool = True,
         lean: float = 0.0, far_lean: float = 0.0,
         tuck: float = 0.0) -> list[np.ndarray]:  # fmt: skip
    """Closed box of half width x; `lean`, `far_lean`, `tuck` move its top edges inwards."""
    length, height = z1 - z0, y1 - y0
    back = [palette[0], palette[1], palette[2], (120, 16, 16)]
    face = [palette[0], palette[1], palette[2], (236, 232, 214)]
    share, a, b = tuck / (2 * x), lean / length, far_lean / length
    ends = [(0, 0), (1, 0), (1 - share, 1), (share, 1)]
    parts = [
        patch(label, (x, y0, z1), (-2 * x, 0, 0), (0, height, -far_lean), face, far, ends, True),
        patch(label, (-x, y0, z0), (2 * x, 0, 0), (0, height, lean), back, near, ends, True,
              BRAKE_LIGHTS),
        patch(label, (x, y0, z0), (0, 0, length), (-tuck, height, 0), palette, side,
              [(0, 0), (1, 0), (1 - b, 1), (a, 1)], True),
        patch(label, (-x, y0, z1), (0, 0, -length), (tuck, height, 0), palette, side,
              [(0, 0), (1, 0), (1 - a, 1), (b, 1)], True),
    ]  # fmt: skip
    if top:
        parts.append(
            patch(label, (-x + tuck, y1, z0 + lean), (2 * (x - tuck), 0, 0),
                  (0, 0, length - lean - far_lean), [palette[0]], one_sided=True,
                  smallest=2)
        )  # fmt: skip
    return parts


def vehicle(random: Random, kind: VehicleKind) -> tuple[np.ndarray, float]:
    """Vehicle centred at the origin, driving along +z: patches, and length in metres."""
    length, height = random.uniform(*kind.length), random.uniform(*kind.height)
    x, z = kind.width / 2, length / 2
    dark: Colour = (24, 25, 28)
    paint = _vary(random, random.choice(_PAINTS), 10)
    colours: list[Colour] = [paint, dark, (176, 178, 180), (200, 120, 60)]
    pane: list[Colour] = [paint, (34, 40, 48), (110, 126, 140)]
    if kind.label in ("motorcycle", "bicycle"):
        return _two_wheeler(random, kind.label, length, height), length
    if kind.label == "bus":
        paint = random.choice(((196, 160, 40), (170, 40, 40), (226, 226, 220), (40, 96, 150)))
        colours = [paint, (40, 46, 54), (230, 228, 220), (200, 120, 60)]
        parts = _box("bus", x, 0.3, height, -z, z, colours, Texture.BUS_END, Texture.BUS_END,
                     Texture.BUS_SIDE)  # fmt: skip
    elif kind.label == "truck":
        load: list[Colour] = [_vary(random, random.choice(((214, 214, 210), (180, 172, 150),
                              (70, 96, 140), (150, 52, 44)))), dark, paint]  # fmt: skip
        cab = z - 2.1
        parts = [
            *_box("truck", x - 0.05, 0.35, height * 0.8, cab, z, colours, Texture.GLASS,
                  Texture.BUS_END, Texture.GLASS),
            *_box("truck", x, 0.4, height, -z, cab - 0.2, load, Texture.BOX, Texture.BOX,
                  Texture.BOX),
        ]  # fmt: skip
    elif height > 1.65:
        waist = height * 0.53
        parts = [
            *_box("car", x, 0.18, waist, -z, z, colours, Texture.CAR_REAR, Texture.CAR_FRONT,
                  Texture.CAR_SIDE),
            *_box("car", x, waist, height, -z, z - length * 0.2, pane, Texture.GLASS,
                  Texture.GLASS, Texture.GLASS, lean=0.15, far_lean=0.7, tuck=0.12),
        ]  # fmt: skip
    else:
        waist, boot = height * 0.6, random.choice((0.06, 0.16)) * length
        parts = [
            *_box("car", x, 0.16, waist, -z, z, colours, Texture.CAR_REAR, Texture.CAR_FRONT,
                  Texture.CAR_SIDE),
            *_box("car", x - 0.05, waist, height, -z + boot, z - length * 0.27, pane,
                  Texture.GLASS, Texture.GLASS, Texture.GLASS, lean=0.45, far_lean=0.7, tuck=0.2),
        ]  # fmt: skip
    return concat(parts), length


def _two_wheeler(random: Random, label: str, length: float, height: float) -> np.ndarray:
    """Bicycle or motorcycle with its rider."""
    frame = [_vary(random, random.choice(_PAINTS)), (24, 24, 26)]
    width = 0.17 if label == "bicycle" else 0.3
    clothes = _clothes(random)
    z = length / 2
    return concat([
        patch(label, (0, 0.0, -z), (0, 0, length), (0, 0.95, 0), frame, Texture.CAR_SIDE),
        patch(label, (-width, 0.0, -z * 0.5), (2 * width, 0, 0), (0, 0.9, 0), frame, signal=
              NO_SIGNAL),
        patch("rider", (-0.26, 0.55, -0.1), (0.52, 0, 0), (0, height - 0.85, 0), clothes[:2],
              Texture.CLOTHES, [(0.2, 0), (0.8, 0), (1, 0.8), (0.8, 1), (0.2, 1), (0, 0.8)]),
        _billboard("rider", 0, height - 0.16, -0.1, 0.14, 0.17, [clothes[2]], Texture.PLAIN),
    ])  # fmt: skip


def _clothes(random: Random) -> list[Colour]:
    coat = random.choice(((150, 40, 44), (40, 60, 110), (36, 38, 42), (190, 184, 170),
                          (70, 110, 80), (210, 160, 50), (120, 80, 130)))  # fmt: skip
    trousers = random.choice(((38, 42, 56), (30, 30, 32), (96, 84, 68), (70, 80, 104)))
    skin = random.choice(((214, 170, 140), (150, 104, 76), (96, 66, 50)))
    return [_vary(random, coat), trousers, skin]


def person(random: Random) -> list[np.ndarray]:
    """Pedestrian, three bodies: trunk with head (standing on y = 0), and two legs (hanging from
    the hip, y = 0 of their own coordinates).
    """
    scale = random.uniform(0.86, 1.08)
    hip, shoulder, top = 0.84 * scale, 1.46 * scale, 1.74 * scale
    coat, trousers, skin = _clothes(random)
    outline = [(0.1, 0), (0.9, 0), (1, 0.85), (0.75, 1), (0.25, 1), (0, 0.85)]
    trunk = concat([
        patch("person", (-0.26 * scale, hip - 0.08, 0), (0.52 * scale, 0, 0),
              (0, shoulder - hip + 0.08, 0), [coat, trousers], Texture.CLOTHES, outline),
        _billboard("person", 0, (shoulder + top) / 2, 0, 0.12 * scale, (top - shoulder) / 2 + 0.03,
              [skin], Texture.PLAIN, smallest=0.5),
    ])  # fmt: skip
    legs = [
        patch("person", (x - 0.11 * scale, -hip, 0.02), (0.22 * scale, 0, 0), (0, hip, 0),
              [trousers, (30, 28, 26)], Texture.CLOTHES)
        for x in (-0.11 * scale, 0.11 * scale)
    ]  # fmt: skip
    return [trunk, *legs]


def hip_height(trunk: np.ndarray) -> float:
    """Hip height in metres of a trunk from `person`."""
    return float(trunk["origin"][0, 1]) + 0.08
