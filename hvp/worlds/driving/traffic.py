"""Traffic simulation: ego vehicle, other vehicles, pedestrians, traffic lights.

Vehicles follow the intelligent driver model (IDM; Treiber, Hennecke and Helbing 2000) towards a
desired speed. Decisions (desired speed, braking, lane changes, pulling out, lights, crossing the
street) are Poisson processes: each occurs in a step with probability rate * dt, so the past never
determines the future.
"""

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np

from hvp.worlds.driving import shapes
from hvp.worlds.driving.road import GREEN, RED, YELLOW, Crossing, Road
from hvp.worlds.driving.settings import DrivingWorld, VehicleKind

WAITING, KERB = -1, 9

Pose = tuple[float, float, float, float, float, float]
"""Pose of a body: world x, y, z, heading, and lean to the right and forward per metre of height."""


@dataclass(eq=False)
class Vehicle:
    """Vehicle: moving, or parked and able to pull out."""

    patches: np.ndarray
    length: float
    direction: int
    """Driving direction: +1 with the camera, -1 oncoming, 0 on a crossing street."""
    lane: int
    """Lane index: 0 = next to the centre line, WAITING = parking lane, KERB = bicycles."""
    s: float
    lateral: float
    speed: float
    desired_speed: float
    """Desired speed of the IDM."""
    lateral_speed: float = 0.0
    """Lateral speed, to the right."""
    acceleration: float = 0.0
    braking: bool = False
    offset: float = 0.0
    """Random lateral offset within the lane."""
    pose: Pose = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    old_pose: Pose | None = None

    @property
    def brake_lights(self) -> bool:
        """Whether the brake lights are on."""
        return self.acceleration < -0.6 or (self.speed < 0.1 and self.lane != WAITING)


@dataclass(eq=False)
class Pedestrian:
    """Pedestrian; `bodies` are the trunk and two legs."""

    bodies: list[np.ndarray]
    hip: float
    s: float
    lateral: float
    along: float
    """Speed along the road."""
    across: float = 0.0
    """Speed to the right; not 0 while crossing the road."""
    goal: float = 0.0
    """Lateral position of the opposite sidewalk."""
    phase: float = 0.0
    poses: list[Pose] = field(default_factory=list)
    old_poses: list[Pose] | None = None


class Traffic:
    """Traffic state, advanced frame by frame by random processes."""

    def __init__(self, world: DrivingWorld, road: Road, random: Random, dt: float) -> None:
        self.world, self.road, self.random, self.dt = world, road, random, dt
        self.vehicles: list[Vehicle] = []
        self.people: list[Pedestrian] = []
        self.changed = True
        """Whether vehicles or people came or went since the last frame was rendered."""
        road.extend(world.far + 140)
        lane = random.randrange(road.profile(30.0).lanes)
        speed = road.profile(30.0).district.speed
        nothing = np.zeros(0, shapes.PATCH)
        start = random.uniform(20.0, 70.0)
        self.ego = Vehicle(nothing, 4.4, 1, lane, start, 0.0, speed, speed)
        self.ego.lateral = self._centre(self.ego)
        self.nod, self._bump = 0.0, 0.0
        ahead, oncoming = start + random.uniform(12.0, 45.0), start + random.uniform(10, 40)
        self._places = {1: ahead if world.ahead else math.inf, -1: oncoming}
        self._spawn_in_reach()
        self._pose_all()

    # -- coming and going ------------------------------------------------------------------------

    def _kind(self, parks: bool) -> VehicleKind:
        kinds = [kind for kind in self.world.vehicles if kind.parks or not parks]
        return self.random.choices(kinds, [kind.share for kind in kinds])[0]

    def _spawn(self, direction: int, lane: int, s: float, lateral: float = 0.0, moving: bool = True,
               faster: float = 0.0) -> Vehicle:  # fmt: skip
        random, world = self.random, self.world
        kind = self._kind(parks=not moving)
        patches, length = shapes.vehicle(random, kind)
        wish = self.road.profile(s).district.speed
        wish *= max(0.5, random.gauss(1.0, world.speed_spread))
        if kind.label == "bicycle":
            wish, lane = world.cycling_speed * random.uniform(0.8, 1.2), KERB
        wish = max(wish, faster)
        vehicle = Vehicle(
            patches, length, direction, lane, s, lateral, wish if moving else 0.0, wish
        )
        if moving and direction:
            vehicle.lateral = self._centre(vehicle)
        self.vehicles.append(vehicle)
        self.changed = True
        return vehicle

    def _spawn_in_reach(self) -> None:
        """Spawn vehicles and people on the road that has come into range."""
        random, world, road = self.random, self.world, self.road
        reach = self.ego.s + world.far
        for direction, gap in ((1, world.gap_ahead), (-1, world.gap_oncoming)):
            while self._places[direction] < reach:
                s = self._places[direction]
                lane = random.randrange(road.profile(s).lanes)
                self._spawn(direction, lane, s)
                # Poisson arrivals: exponential gaps beyond the length of a vehicle.
                self._places[direction] = s + 9.0 + random.expovariate(1.0 / gap)
        while road.leavers and road.leavers[0].s < reach:
            parked = road.leavers.pop(0)
            self._spawn(parked.direction, WAITING, parked.s, parked.lateral, moving=False)
        while road.walkers and road.walkers[0][0] < reach:
            s, lateral = road.walkers.pop(0)
            bodies = shapes.person(random)
            speed = random.choice((-1, 1)) * random.uniform(*world.walking_speed)
            if random.random() < 0.12:
                speed = 0.0
            self.people.append(
                Pedestrian(bodies, shapes.hip_height(bodies[0]), s, lateral, speed,
                           phase=random.uniform(0, 6))
            )  # fmt: skip
            self.changed = True

    def _despawn(self) -> None:
        here, far = self.ego.s, self.world.far + 30
        vehicles = [v for v in self.vehicles if -16 < v.s - here < far and abs(v.lateral) < 45]
        people = [p for p in self.people if -4 < p.s - here < far]
        if len(vehicles) < len(self.vehicles) or len(people) < len(self.people):
            self.changed = True
        self.vehicles, self.people = vehicles, people

    # -- one step --------------------------------------------------------------------------------

    def step(self) -> None:
        """Advance the simulation by one frame."""
        world, road, random, dt = self.world, self.road, self.random, self.dt
        before = self.ego.s
        for vehicle in self.vehicles:
            vehicle.old_pose = vehicle.pose
        for person in self.people:
            person.old_poses = person.poses
        self._step_lights()
        self._decide()
        self._drive()
        for person in self.people:
            self._walk(person)
        road.extend(self.ego.s + world.far + 60)
        # Oncoming traffic moves towards the camera: shift its next spawn position along.
        self._places[-1] -= dt * road.profile(self.ego.s).district.speed
        self._places[-1] = max(self._places[-1], self.ego.s + world.far - 25)
        self._places[1] += dt * road.profile(self.ego.s).district.speed * 0.85
        self._places[1] = max(self._places[1], self.ego.s + 160)
        self._spawn_in_reach()
        self._despawn()
        road.forget(self.ego.s - 40)
        pull = 1 - math.exp(-dt / world.pitch_relaxation)
        self._bump += (pull * -self._bump) + random.gauss(0, world.pitch_noise) * math.sqrt(
            pull * min(1.0, (self.ego.s - before) / dt / 10)
        )
        self.nod += pull * (world.pitch_per_acceleration * self.ego.acceleration - self.nod)
        self._pose_all()

    def _occurs(self, rate: float) -> bool:
        """Poisson event of `rate` per second within one frame."""
        return self.random.random() < rate * self.dt

    def _step_lights(self) -> None:
        for crossing in self.road.crossings:
            if not crossing.has_light or crossing.s0 - self.ego.s > self.world.far:
                continue
            if self._occurs(self.world.light_rates[crossing.state]):
                crossing.state = (crossing.state + 1) % 3
            if crossing.state == RED and self._occurs(self.world.cross_rate):
                self._cross_street(crossing)

    def _cross_street(self, crossing: Crossing) -> None:
        side = self.random.choice((-1, 1))
        middle = (crossing.s0 + crossing.s1) / 2
        s = middle + side * 2.0
        if any(v.direction == 0 and abs(v.s - s) < 1 and abs(v.lateral + side * 30) < 14
               for v in self.vehicles):  # fmt: skip
            return
        # Right-hand traffic: those driving to the right (+) keep to the nearer half (smaller s).
        vehicle = self._spawn(0, 0, s, lateral=side * 30.0)
        vehicle.lateral_speed = -side * vehicle.desired_speed

    def _centre(self, vehicle: Vehicle) -> float:
        """Lateral position of the vehicle's lane centre."""
        lanes = self.road.profile(vehicle.s).lanes
        place = lanes - 0.12 if vehicle.lane == KERB else min(vehicle.lane, lanes - 1) + 0.5
        return vehicle.direction * place * self.world.lane_width

    def _decide(self) -> None:
        """Driver decisions: desired speed, braking, lane changes, pulling out, overtaking."""
        world, random, road = self.world, self.random, self.road
        for vehicle in (self.ego, *self.vehicles):
            if vehicle.direction == 0:
                continue
            profile = road.profile(vehicle.s)
            if vehicle.lane == WAITING:
                if self._occurs(world.pull_out_rate) and self._free(vehicle, profile.lanes - 1, 16):
                    vehicle.lane = profile.lanes - 1
                continue
            if vehicle.lane == KERB:
                continue
            vehicle.lane = min(vehicle.lane, profile.lanes - 1)
            if self._occurs(world.wish_rate):
                spread = max(0.6, random.gauss(1.0, world.speed_spread))
                vehicle.desired_speed = profile.district.speed * spread
            if self._occurs(world.release_rate if vehicle.braking else world.brake_rate):
                vehicle.braking = not vehicle.braking
            if profile.lanes > 1 and self._occurs(world.lane_change_rate):
                lane = vehicle.lane + random.choice((-1, 1))
                if 0 <= lane < profile.lanes and self._free(vehicle, lane, 9):
                    vehicle.lane = lane
        ego = self.ego
        if road.profile(ego.s).lanes > 1 and self._occurs(world.overtake_rate):
            passing = self._spawn(1, 1 - min(ego.lane, 1), ego.s - 13, faster=ego.speed + 4)
            if not self._free(passing, passing.lane, 6):
                self.vehicles.remove(passing)

    def _free(self, vehicle: Vehicle, lane: int, room: float) -> bool:
        return not any(
            other is not vehicle
            and other.direction == vehicle.direction
            and other.lane == lane
            and abs(other.s - vehicle.s) < room + (other.length + vehicle.length) / 2
            for other in (self.ego, *self.vehicles)
        )

    def _drive(self) -> None:
        dt = self.dt
        queues: dict[tuple[int, int], list[Vehicle]] = {}
        for vehicle in (self.ego, *self.vehicles):
            if vehicle.direction == 0:
                vehicle.lateral += vehicle.lateral_speed * dt
            elif vehicle.lane != WAITING:
                queues.setdefault((vehicle.direction, vehicle.lane), []).append(vehicle)
        crossers = [person for person in self.people if person.across]
        for (direction, _), queue in queues.items():
            queue.sort(key=lambda vehicle: -direction * vehicle.s)
            leader: Vehicle | None = None
            for vehicle in queue:
                self._accelerate(vehicle, leader, crossers)
                leader = vehicle
        for queue in queues.values():
            for vehicle in queue:
                speed = vehicle.speed
                vehicle.speed = max(0.0, speed + vehicle.acceleration * dt)
                vehicle.s += vehicle.direction * (speed + vehicle.speed) / 2 * dt
                self._steer(vehicle)

    def _accelerate(self, vehicle: Vehicle, leader: Vehicle | None,
                    crossers: list[Pedestrian]) -> None:  # fmt: skip
        world, road, direction = self.world, self.road, vehicle.direction
        front = vehicle.s + direction * vehicle.length / 2
        bend = abs(road.curvature(max(vehicle.s + direction * 8, road.first * world.segment + 8)))
        wish = min(vehicle.desired_speed, math.sqrt(world.lateral_acceleration / max(bend, 1e-4)))
        gaps: list[tuple[float, float]] = []
        if leader is not None:
            gap = direction * (leader.s - front) - leader.length / 2
            gaps.append((gap, leader.speed))
        for crossing in road.crossings:
            if not crossing.has_light or crossing.state == GREEN:
                continue
            line = crossing.s0 - 6.5 if direction > 0 else crossing.s1 + 6.5
            gap = direction * (line - front) + world.standstill
            stop = vehicle.speed**2 / (2 * world.comfort_braking * 1.5)
            if gap > (stop if crossing.state == YELLOW else 0.6 * stop):
                gaps.append((gap, 0.0))
        for person in crossers:
            ahead = direction * (person.s - front)
            lateral = person.lateral + person.across * min(2.0, max(0.0, ahead) / 6)
            between = (
                min(person.lateral, lateral) - 1.9
                < vehicle.lateral
                < max(person.lateral, lateral) + 1.9
            )
            if 0.0 < ahead < 45 and between:
                gaps.append((ahead - 0.8, 0.0))
        ratio = vehicle.speed / max(wish, 0.5)
        acceleration = world.acceleration * (1 - min(ratio, 2.0) ** 4)
        strength = 2 * math.sqrt(world.acceleration * world.comfort_braking)
        for gap, speed in gaps:
            closing = vehicle.speed * (vehicle.speed - speed) / strength
            wanted = world.standstill + max(0.0, vehicle.speed * world.headway + closing)
            acceleration = min(
                acceleration,
                world.acceleration * (1 - min(ratio, 2.0) ** 4 - (wanted / max(gap, 0.3)) ** 2),
            )
        if vehicle.braking:
            acceleration = min(acceleration, -world.brake_deceleration)
        acceleration = max(acceleration, -world.max_braking)
        # Reaction of the pedals: half of the change within 0.2 s.
        follow = 1 - 0.5 ** (self.dt / 0.2)
        if acceleration < -4:
            follow = 1.0
        vehicle.acceleration += follow * (acceleration - vehicle.acceleration)

    def _steer(self, vehicle: Vehicle) -> None:
        world, dt = self.world, self.dt
        pull = dt / world.wander_time
        noise = world.wander * math.sqrt(2 * pull)
        vehicle.offset += -pull * vehicle.offset + self.random.gauss(0, noise)
        stiffness, damping = world.steering
        away = self._centre(vehicle) + vehicle.offset - vehicle.lateral
        force = stiffness * max(-2.0, min(2.0, away)) - damping * vehicle.lateral_speed
        vehicle.lateral_speed += force * dt
        most = 0.25 * vehicle.speed
        vehicle.lateral_speed = max(-most, min(most, vehicle.lateral_speed))
        vehicle.lateral += vehicle.lateral_speed * dt

    def _walk(self, person: Pedestrian) -> None:
        world, random, dt = self.world, self.random, self.dt
        if person.across:
            person.lateral += person.across * dt
            if (person.goal - person.lateral) * person.across <= 0:
                person.along, person.across = person.across, 0.0
        else:
            person.s += person.along * dt
            if self._occurs(world.turn_rate):
                person.along = random.choice((-1, 0, 1)) * random.uniform(*world.walking_speed)
            near = 8 < person.s - self.ego.s < 60
            if near and self._occurs(world.cross_street_rate):
                _, inner, outer = self.road.profile(person.s).edges(0 if person.lateral > 0 else 1)
                person.goal = -math.copysign((inner + outer) / 2, person.lateral)
                person.across = -math.copysign(random.uniform(*world.walking_speed), person.lateral)
        person.phase += dt * 4.2 * abs(person.across or person.along)

    # -- poses -----------------------------------------------------------------------------------

    def _pose_all(self) -> None:
        at = self.road.at
        for vehicle in (self.ego, *self.vehicles):
            x, z, heading = at(vehicle.s, vehicle.lateral)
            if vehicle.direction == 0:
                heading += math.copysign(math.pi / 2, vehicle.lateral_speed)
            else:
                heading += math.atan2(vehicle.lateral_speed, max(vehicle.speed, 3.0))
                if vehicle.direction < 0:
                    heading = math.pi + 2 * at(vehicle.s, vehicle.lateral)[2] - heading
            vehicle.pose = (x, 0.0, z, heading, 0.0, 0.0)
        for person in self.people:
            x, z, heading = at(person.s, person.lateral)
            swing = 0.45 * math.sin(person.phase) if person.along or person.across else 0.0
            right, forward = (swing, 0.0) if person.across else (0.0, swing)
            person.poses = [
                (x, 0.0, z, heading, 0.0, 0.0),
                (x, person.hip, z, heading, right, forward),
                (x, person.hip, z, heading, -right, -forward),
            ]

    def camera(self) -> tuple[float, float, float, float]:
        """Camera pose: world x, z, heading and pitch (up) in radians."""
        x, _, z, heading, _, _ = self.ego.pose
        return x, z, heading, self.nod + self._bump
