"""Motion model of the walker world: gait, speed, turns, gestures, as random processes.

World coordinates: x to the right, y up, z away from the camera, the floor at y = 0.

Shapes: J = 17 joints.
"""

import math
from random import Random

import numpy as np

from hvp.worlds.body.skeleton import N_JOINTS, Joint
from hvp.worlds.walker.settings import Gesture, WalkerWorld


def _bump(phase: float, centre: float, width: float) -> float:
    """Gaussian bump around `centre` on the circle of phases 0..1."""
    distance = (phase - centre + 0.5) % 1.0 - 0.5
    return math.exp(-((distance / width) ** 2))


class _Arm:
    """State of one arm: gesture, blend between swing and gesture, directions."""

    def __init__(self) -> None:
        self.gesture: Gesture | None = None
        self.ends = 0.0
        self.level = 0.0
        self.upper = np.array([0.1, -1.0, 0.0])
        self.lower = np.array([0.1, -1.0, 0.2])


class Person:
    """Walking person: `step` advances the motion, `joints` gives the 3D pose."""

    def __init__(self, world: WalkerWorld, body: Random, random: Random, dt: float) -> None:
        """Args:
        world: settings.
        body: random generator of the body and the initial state.
        random: random generator of the motion; may be replaced between two steps.
        dt: time step in seconds.
        """
        self.world, self.random, self.dt = world, random, dt
        self.stature = body.uniform(*world.stature)
        self.x, self.z = (body.uniform(-0.6, 0.6) * reach for reach in world.arena)
        self.heading = body.uniform(-math.pi, math.pi)
        self.phase = body.random()
        self.time = 0.0
        self.wish_speed = self.speed = self._draw_speed(body)
        self.wish_heading = self.heading
        self.turning = self.look = self.lean = 0.0
        self.crouch = self.crouch_wish = self.crouch_ends = 0.0
        self.height = self.rising = 0.0
        self.arms = {"L": _Arm(), "R": _Arm()}
        for _ in range(round(2.0 / dt)):  # settle into the gait
            self.step()

    def _draw_speed(self, random: Random) -> float:
        modes = self.world.speeds
        _, low, high, _ = random.choices(modes, [mode[3] for mode in modes])[0]
        return random.uniform(low, high)

    def _occurs(self, rate: float) -> bool:
        """Poisson event of `rate` per second within one step."""
        return self.random.random() < 1.0 - math.exp(-rate * self.dt)

    def step(self) -> None:
        """Advance by one time step."""
        self.time += self.dt
        self._choose_way()
        self._move()
        self._crouch_or_jump()
        for side in self.arms:
            self._move_arm(side)
        pull = self.dt / self.world.look_time
        noise = self.random.gauss(0.0, self.world.look_spread * math.sqrt(2 * pull))
        self.look += -pull * self.look + noise

    def _choose_way(self) -> None:
        world, random = self.world, self.random
        if self._occurs(world.mode_rate):
            self.wish_speed = self._draw_speed(random)
        if self._occurs(world.turn_rate):
            self.wish_heading = self.heading + random.gauss(0.0, world.turn_spread)
        # Near the edge of the arena the person turns back.
        ahead = 0.35 * self.speed + 0.1
        next_x = self.x + ahead * math.sin(self.heading)
        next_z = self.z + ahead * math.cos(self.heading)
        if (next_x / world.arena[0]) ** 2 + (next_z / world.arena[1]) ** 2 > 1.0:
            home = math.atan2(-self.x, -self.z)
            off = (self.wish_heading - home + math.pi) % (2 * math.pi) - math.pi
            if abs(off) > 1.0:
                self.wish_heading = home + random.uniform(-0.8, 0.8)

    def _move(self) -> None:
        world, dt = self.world, self.dt
        off = (self.wish_heading - self.heading + math.pi) % (2 * math.pi) - math.pi
        turning = max(-world.turn_speed, min(world.turn_speed, off / world.turn_response))
        self.turning += (turning - self.turning) * min(1.0, dt / 0.12)
        self.heading += self.turning * dt
        # Turning slows down, and a crouching person stands still.
        wish = self.wish_speed * (1.0 - 0.6 * min(1.0, abs(off) / 1.5)) * (1.0 - self.crouch)
        wish = 0.0 if self.crouch_wish else wish
        change = max(-world.acceleration * dt, min(world.acceleration * dt, wish - self.speed))
        self.speed += change
        self.lean += (0.05 * change / dt - self.lean) * min(1.0, dt / 0.2)
        x = self.x + self.speed * math.sin(self.heading) * dt
        z = self.z + self.speed * math.cos(self.heading) * dt
        beyond = math.hypot(x / world.arena[0], z / world.arena[1])
        if beyond > 1.0:  # clamped to the arena
            x, z = x / beyond, z / beyond
        self.x, self.z = x, z
        pace = max(self.speed, 0.25 * abs(self.turning))
        self.phase += (world.cadence[0] + world.cadence[1] * pace) * dt * min(1.0, pace / 0.2)

    def _crouch_or_jump(self) -> None:
        world, random = self.world, self.random
        standing = self.speed < 0.15 and self.height == 0.0
        if standing and not self.crouch_wish and self._occurs(world.crouch_rate):
            if random.random() < world.jump_share:
                self.crouch_wish, self.crouch_ends = 0.5, self.time + 0.35
                self.rising = world.jump_speed
            else:
                self.crouch_wish = random.uniform(0.5, 1.0)
                self.crouch_ends = self.time + random.uniform(*world.crouch_length)
        if self.crouch_wish and self.time > self.crouch_ends:
            self.crouch_wish = 0.0
        self.crouch += (self.crouch_wish - self.crouch) * min(1.0, self.dt / 0.14)
        if self.rising and not self.crouch_wish:
            self.height += self.rising * self.dt
            self.rising -= 9.81 * self.dt
            if self.height <= 0.0:
                self.height = self.rising = 0.0
                self.crouch = max(self.crouch, 0.35)

    def _move_arm(self, side: str) -> None:
        world, random, arm = self.world, self.random, self.arms[side]
        if arm.gesture is None and self._occurs(world.gesture_rate / 2):
            gesture = random.choice(world.gestures)
            ends = self.time + 0.5 + random.expovariate(1 / world.gesture_length)
            both = random.random() < gesture.both
            for other in self.arms.values() if both else (arm,):
                other.gesture, other.ends = gesture, ends
        if arm.gesture is not None and self.time > arm.ends:
            arm.gesture = None
        upper, lower = self._swing(side)
        if arm.gesture is not None:
            wave = arm.gesture.swing * math.sin(2 * math.pi * world.wave_frequency * self.time)
            upper = np.array(arm.gesture.upper)
            lower = np.array(arm.gesture.lower)
            lower[0] += wave
        # Arms follow a swing at once, and a gesture with a time constant.
        slow = arm.gesture is not None or arm.level > 0.02
        arm.level += (float(arm.gesture is not None) - arm.level) * min(1.0, self.dt / 0.3)
        follow = min(1.0, self.dt / world.gesture_response) if slow else 1.0
        for name, wish in (("upper", upper), ("lower", lower)):
            now = getattr(arm, name)
            now = now + follow * (wish / np.linalg.norm(wish) - now)
            setattr(arm, name, now / max(float(np.linalg.norm(now)), 1e-6))

    def _stride(self) -> float:
        """Amplitude of the hip angle in radians, at this speed."""
        cadence = self.world.cadence[0] + self.world.cadence[1] * self.speed
        step = self.speed / (2 * cadence * self.stature)
        lift = 0.06 * min(1.0, abs(self.turning))  # feet also step when turning on the spot
        return math.asin(min(0.75, step / 2 / (self.world.thigh + self.world.shin))) + lift

    def _swing(self, side: str) -> tuple[np.ndarray, np.ndarray]:
        """Arm swing: directions of upper and lower arm, in antiphase to the leg of its side."""
        run = max(0.0, min(1.0, (self.speed - 1.5) / 0.8))
        phase = self.phase + (0.0 if side == "L" else 0.5)
        angle = -(0.9 + 0.3 * run) * self._stride() * math.cos(2 * math.pi * (phase - 0.97))
        elbow = 0.22 + 1.15 * run + 0.35 * max(0.0, angle) + 0.5 * self.crouch
        angle += 0.5 * self.crouch
        upper = np.array([0.13, -math.cos(angle), math.sin(angle)])
        bent = angle + elbow
        return upper, np.array([0.02 - 0.1 * run, -math.cos(bent), math.sin(bent)])

    def _leg(self, side: str) -> tuple[float, float]:
        """Angles of thigh and shin in radians from straight down, forward positive."""
        phase = (self.phase + (0.0 if side == "L" else 0.5)) % 1.0
        stride = self._stride()
        run = max(0.0, min(1.0, (self.speed - 1.5) / 0.8))
        hip = stride * math.cos(2 * math.pi * (phase - 0.97)) + 0.1 * stride
        knee = 0.06 + 0.35 * stride * _bump(phase, 0.13, 0.08)
        knee += (2.4 + 1.0 * run) * stride * _bump(phase, 0.74, 0.11) + 0.2 * run
        hip += (0.3 + 0.3 * run) * stride * _bump(phase, 0.8, 0.12)
        hip += 1.25 * self.crouch
        knee += 2.2 * self.crouch
        return hip, hip - knee

    def joints(self) -> np.ndarray:
        """3D joints (J, 3) in world coordinates, metres."""
        world = self.world
        local = np.zeros((N_JOINTS, 3))  # left of the person, up, forward
        lowest = 0.0
        for side, sign in (("L", 1.0), ("R", -1.0)):
            hip = np.array([sign * world.hip_width, 0.0, 0.0])
            thigh, shin = self._leg(side)
            spread = sign * (0.02 + 0.12 * self.crouch)
            knee = hip + world.thigh * np.array([spread, -math.cos(thigh), math.sin(thigh)])
            foot = knee + world.shin * np.array([0.0, -math.cos(shin), math.sin(shin)])
            local[[Joint[f"{side}_HIP"], Joint[f"{side}_KNEE"], Joint[f"{side}_FOOT"]]] = (
                hip, knee, foot,
            )  # fmt: skip
            lowest = min(lowest, foot[1])
        self._put_upper_body(local)
        local[:, 1] += world.ankle - lowest
        local *= self.stature
        local[:, 1] += self.height
        c, s = math.cos(self.heading), math.sin(self.heading)
        # Forward is (s, 0, c); the person's left is to the left of it, seen from above.
        axes = np.array([[-c, 0.0, s], [0.0, 1.0, 0.0], [s, 0.0, c]])
        return local @ axes + (self.x, 0.0, self.z)

    def _put_upper_body(self, local: np.ndarray) -> None:
        world = self.world
        lean = 0.04 + 0.05 * self.speed + self.lean + 0.75 * self.crouch
        up = np.array([0.0, math.cos(lean), math.sin(lean)])
        fore = np.array([0.0, -math.sin(lean), math.cos(lean)])
        twist = -0.35 * self._stride() * math.cos(2 * math.pi * (self.phase - 0.97))
        left = np.array([math.cos(twist), 0.0, 0.0]) + math.sin(twist) * fore
        thorax = 2 * world.spine * up
        local[Joint.SPINE], local[Joint.THORAX] = world.spine * up, thorax
        look = np.array([math.sin(self.look), 0.0, 0.0]) + math.cos(self.look) * fore
        level = up * 0.8 + np.array([0.0, 0.2, 0.0])  # the head stays more upright
        local[Joint.NOSE] = thorax + world.neck * level + 0.05 * look
        local[Joint.HEAD] = thorax + (world.neck + world.head) * level + 0.015 * look
        for side, sign in (("L", 1.0), ("R", -1.0)):
            arm = self.arms[side]
            shoulder = thorax + sign * world.shoulder_width * left - 0.03 * up
            frame = np.stack([sign * left, up, np.cross(left, up)])
            elbow = shoulder + world.upper_arm * (arm.upper @ frame)
            local[Joint[f"{side}_SHOULDER"]] = shoulder
            local[Joint[f"{side}_ELBOW"]] = elbow
            local[Joint[f"{side}_WRIST"]] = elbow + world.lower_arm * (arm.lower @ frame)
