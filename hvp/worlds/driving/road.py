"""Procedural road and static scenery, generated ahead of the camera and dropped behind it.

Road coordinates (Frenet): s along the centre line in metres from the start, l to the right of it.
The centre line is a polyline; between two vertices s and l interpolate linearly, and
`hvp.worlds.driving.ground` inverts exactly this map.
"""

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np

from hvp.worlds.driving import shapes
from hvp.worlds.driving.settings import District, DrivingWorld

GREEN, YELLOW, RED = 0, 1, 2

ITEM = np.dtype([
    ("key", "f8"),              # depth-sort key: s, painted in falling order
    ("s0", "f8"), ("s1", "f8"), # extent along the road
    ("l", "f8"), ("x", "f8"), ("z", "f8"), ("heading", "f8"),
    ("solid", "?"),             # may stand beside a vehicle, so that s alone does not order them
])  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """Road cross-section."""

    district: District
    lanes: int
    """Lanes per direction."""
    half_road: tuple[float, float]
    """Half width left and right, with parking lanes."""
    parking: tuple[bool, bool]
    verge: tuple[float, float]
    sidewalk: float
    yellow: bool
    """Whether the centre marking is a yellow double line."""

    def edges(self, side: int) -> tuple[float, float, float]:
        """Distances from the centre to the ends of road, verge and sidewalk on `side` (0, 1)."""
        road = self.half_road[side]
        return road, road + self.verge[side], road + self.verge[side] + self.sidewalk


@dataclass
class Crossing:
    """Crossing street between s0 and s1; its traffic light applies to both road directions."""

    number: int
    s0: float
    s1: float
    has_light: bool
    state: int


@dataclass
class Parked:
    """Parked vehicle that may pull out; `traffic` takes it over."""

    s: float
    lateral: float
    direction: int


@dataclass
class _Bin:
    patches: list[np.ndarray] = field(default_factory=list)
    items: list[tuple[float | bool, ...]] = field(default_factory=list)
    merged: np.ndarray | None = None
    """Cache: all patches as one array, numbered by item within the bin; None when stale."""


class Road:
    """Road around the camera: centre line, cross-sections, crossings, scenery."""

    BIN = 32.0
    """Length in metres of a scenery bin, generated and dropped together."""

    def __init__(self, world: DrivingWorld, random: Random) -> None:
        self.world = world
        self.random = random
        """Random generator; replaced when the future branches."""
        self.first = 0
        """Index of the first vertex still in memory."""
        self.x, self.z, self.heading = [0.0], [0.0], [random.uniform(-0.3, 0.3)]
        self._curvature, self._bend_left, self._bend_target = 0.0, 0.0, 0.0
        self.profiles: list[Profile] = []
        self.kinds: list[int] = []
        """Per segment: -1 road, -2 zebra crossing, else the number of its crossing street."""
        self.crossings: list[Crossing] = []
        self.leavers: list[Parked] = []
        """Queue of parked vehicles for `traffic`."""
        self.walkers: list[tuple[float, float]] = []
        """Queue of pedestrians (s, lateral) for `traffic`."""
        self._bins: dict[int, _Bin] = {}
        self._crossing_number = 0

    # -- centre line -----------------------------------------------------------------------------

    def at(self, s: float, lateral: float) -> tuple[float, float, float]:
        """Road to world coordinates: x, z and heading of the point (s, lateral)."""
        position = s / self.world.segment
        i = math.floor(position)
        t = position - i
        i -= self.first
        h0, h1 = self.heading[i], self.heading[i + 1]
        right_x = (1 - t) * math.cos(h0) + t * math.cos(h1)
        right_z = -(1 - t) * math.sin(h0) - t * math.sin(h1)
        x = (1 - t) * self.x[i] + t * self.x[i + 1] + lateral * right_x
        z = (1 - t) * self.z[i] + t * self.z[i + 1] + lateral * right_z
        return x, z, (1 - t) * h0 + t * h1

    def curvature(self, s: float) -> float:
        """Curvature of the centre line in 1/m, averaged over two segments."""
        i = int(s / self.world.segment) - self.first
        return (self.heading[i + 2] - self.heading[i]) / (2 * self.world.segment)

    def profile(self, s: float) -> Profile:
        """Cross-section at s."""
        return self.profiles[int(s / self.world.segment) - self.first]

    def light(self, number: int) -> int:
        """State of a crossing's traffic light."""
        return next((c.state for c in self.crossings if c.number == number), GREEN)

    @property
    def end(self) -> float:
        """End of the generated road, s in metres."""
        return (self.first + len(self.profiles)) * self.world.segment

    def _add_segment(self, profile: Profile, kind: int) -> None:
        world, random = self.world, self.random
        if self._bend_left <= 0:
            self._bend_left = random.uniform(*world.bend_length)
            bend = random.uniform(*world.bend_curvature) * random.choice((-1, 1))
            self._bend_target = 0.0 if random.random() < world.straight_share else bend
        self._bend_left -= world.segment
        heading = self.heading[-1]
        target = self._bend_target
        if heading * target > 0 and abs(heading) > world.max_heading * 0.7:
            target = -target  # turn back towards north
        self._curvature += 0.3 * (target - self._curvature)
        new = heading + self._curvature * world.segment
        middle = (heading + new) / 2
        self.x.append(self.x[-1] + world.segment * math.sin(middle))
        self.z.append(self.z[-1] + world.segment * math.cos(middle))
        self.heading.append(new)
        self.profiles.append(profile)
        self.kinds.append(kind)

    # -- growing and forgetting ------------------------------------------------------------------

    def extend(self, s: float) -> None:
        """Generate road and scenery up to s at least."""
        while self.end < s:
            self._add_stretch()

    def forget(self, s: float) -> None:
        """Drop road and scenery behind s."""
        drop = int(s // self.world.segment) - self.first
        if drop < 16:
            return
        self.first += drop
        for chain in (self.x, self.z, self.heading, self.profiles, self.kinds):
            del chain[:drop]
        self.crossings = [crossing for crossing in self.crossings if crossing.s1 > s - 10]
        for number in [n for n in self._bins if (n + 1) * self.BIN < s]:
            del self._bins[number]

    def scenery(self, s0: float, s1: float) -> tuple[list[np.ndarray], np.ndarray]:
        """Scenery between s0 and s1: `PATCH` arrays, and `ITEM`s indexed by their `item` field."""
        patches: list[np.ndarray] = []
        items: list[tuple[float | bool, ...]] = []
        for number in range(int(s0 // self.BIN), int(s1 // self.BIN) + 1):
            bin_ = self._bins.get(number)
            if bin_ is None:
                continue
            if bin_.merged is None:
                bin_.merged = shapes.concat(bin_.patches)
                sizes = [len(part) for part in bin_.patches]
                bin_.merged["item"] = np.repeat(np.arange(len(sizes)), sizes)
            merged = bin_.merged.copy()
            merged["item"] += len(items)
            patches.append(merged)
            items += bin_.items
        return patches, np.array(items, ITEM)

    def _add(self, thing: np.ndarray, s: float, lateral: float, turn: float = 0.0,
             key: float | None = None, reach: float = 0.4, solid: bool = True) -> None:  # fmt: skip
        x, z, heading = self.at(s, lateral)
        placed = shapes.to_world(thing, x, z, heading + turn)
        key = s if key is None else key
        bin_ = self._bins.setdefault(int(key // self.BIN), _Bin())
        bin_.patches.append(placed)
        bin_.items.append((key, s - reach, s + reach, lateral, x, z, heading, solid))
        bin_.merged = None

    # -- one stretch, from one crossing to the next ----------------------------------------------

    def _add_stretch(self) -> None:
        world, random = self.world, self.random
        district = random.choices(world.districts, world.district_weights)[0]
        lanes = random.choice(district.lanes)
        parking = tuple(random.random() < district.parking for _ in range(2))
        verge = tuple(1.6 if random.random() < district.verge else 0.0 for _ in range(2))
        half = tuple(lanes * world.lane_width + p * world.parking_width + 0.3 for p in parking)
        profile = Profile(
            district, lanes, half, parking, verge, random.uniform(*district.sidewalk),  # type: ignore[arg-type]
            random.random() < 0.4,
        )  # fmt: skip
        start = self.end
        length = round(random.uniform(*world.stretch) / world.segment)
        zebra = random.random() < 0.8
        for i in range(length):
            self._add_segment(profile, -2 if zebra and i in (0, length - 1) and start > 0 else -1)
        crossing = Crossing(
            self._crossing_number, self.end, 0.0, random.random() < world.light_share,
            GREEN if random.random() < 0.6 else RED,
        )  # fmt: skip
        self._crossing_number += 1
        for _ in range(random.randint(*world.crossing_segments)):
            self._add_segment(profile, crossing.number)
        crossing.s1 = self.end
        self._add_segment(profile, -1)  # `at` needs a vertex beyond every place
        self.crossings.append(crossing)
        low, high = start + 8.0, crossing.s0 - 9.0
        for side in (0, 1):
            self._add_lots(profile, side, start + 3.0, crossing.s0 - 3.0)
            self._add_furniture(profile, side, low, high)
            self._add_parked(profile, side, low + 6.0, high - 4.0)
        self._add_walkers(profile, start, crossing.s0)
        if crossing.has_light:
            self._add_lights(profile, crossing)

    def _add_lots(self, profile: Profile, side: int, s: float, end: float) -> None:
        world, random, district = self.world, self.random, profile.district
        sign = 2 * side - 1
        edge = profile.edges(side)[2]
        while s < end - 6:
            length = min(random.uniform(*world.lot), end - s)
            middle = s + length / 2
            back = edge + random.uniform(*district.setback)
            if random.random() < district.building:
                house = length - random.choice(world.house_gaps)
                thing = shapes.building(random, world, district, sign, house)
                self._add(thing, middle, sign * back, key=s + length, solid=False)
                if district.setback[1] > 2 and random.random() < 0.6:
                    kind = random.choice(("hedge", "fence", "wall"))
                    low = shapes.barrier(random, kind, length)
                    self._add(low, middle, sign * (edge + 0.2), key=s + length - 0.5, solid=False)
            else:
                if random.random() < 0.55:
                    kind = random.choice(("hedge", "fence", "wall", "fence"))
                    low = shapes.barrier(random, kind, length)
                    self._add(low, middle, sign * (edge + 0.3), key=s + length - 0.5, solid=False)
                for _ in range(random.randint(2, 5)):
                    is_tree = random.random() < 0.7
                    plant = shapes.tree(random, world) if is_tree else shapes.bush(random)
                    where = random.uniform(s, s + length)
                    self._add(plant, where, sign * (edge + random.uniform(2.5, 14)), solid=False)
            s += length

    def _add_furniture(self, profile: Profile, side: int, low: float, high: float) -> None:
        random, district = self.random, profile.district
        sign = 2 * side - 1
        road, verge_end, edge = profile.edges(side)
        curb = sign * (road + 0.5 if profile.verge[side] else verge_end + 0.45)
        s = low + random.uniform(*district.tree_gap)
        while s < high:
            self._add(shapes.tree(random, self.world), s, curb + sign * 0.3)
            s += random.uniform(*district.tree_gap)
        s = low + random.uniform(2, 20)
        while s < high:
            self._add(shapes.lamp(sign), s, curb)
            s += random.uniform(*self.world.lamp_gap)
        s = low + random.uniform(0, 30)
        while s < high:
            self._add(shapes.sign(random), s, curb)
            s += random.uniform(*self.world.sign_gap)
        if edge - road < 2.0:
            return
        for _ in range(int((high - low) * 0.01)):
            self._add(shapes.bush(random), random.uniform(low, high), sign * (edge - 0.3))

    def _add_parked(self, profile: Profile, side: int, s: float, end: float) -> None:
        world, random = self.world, self.random
        if not profile.parking[side]:
            return
        direction = 2 * side - 1
        kinds = [kind for kind in world.vehicles if kind.parks]
        lateral = direction * (profile.half_road[side] - world.parking_width / 2)
        while s < end:
            if random.random() < profile.district.occupancy:
                where = lateral + random.uniform(-0.15, 0.15)
                if random.random() < world.leaver_share:
                    self.leavers.append(Parked(s, where, direction))
                else:
                    kind = random.choices(kinds, [kind.share for kind in kinds])[0]
                    thing, length = shapes.vehicle(random, kind)
                    thing["signal"] = shapes.NO_SIGNAL
                    turn = 0.0 if direction > 0 else math.pi
                    self._add(thing, s, where, turn, reach=length / 2)
            s += random.uniform(6.2, 7.4)

    def _add_walkers(self, profile: Profile, start: float, end: float) -> None:
        random = self.random
        expected = profile.district.people * (end - start)
        for _ in range(int(expected + random.random())):
            side = random.randint(0, 1)
            _, inner, outer = profile.edges(side)
            lateral = (2 * side - 1) * random.uniform(inner + 0.5, max(inner + 0.6, outer - 0.4))
            self.walkers.append((random.uniform(start + 4, end - 4), lateral))

    def _add_lights(self, profile: Profile, crossing: Crossing) -> None:
        for side, s in ((1, crossing.s0 - 4.6), (1, crossing.s1 + 1.0), (0, crossing.s1 + 1.2)):
            sign = 2 * side - 1
            reach = profile.half_road[side] - 1.6 if s > crossing.s1 and side else 0.0
            lateral = sign * (profile.edges(side)[1] + 0.5)
            self._add(shapes.traffic_light(crossing.number, sign, reach), s, lateral)
