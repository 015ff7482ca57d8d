"""Every constant of the synthetic walker world, so that a digest of them names the world.

Units: metres, seconds, metres per second, radians; rates are expected events per second. Directions
of arms are (out, up, forward) from the person: `out` is away from the body's middle on either side.
"""

from dataclasses import asdict, dataclass

from hvp.files import settings_digest

WALKER_VERSION = 1
"""Raised whenever the code of the world changes its pictures (settings carry their own digest)."""

Direction = tuple[float, float, float]


@dataclass(frozen=True)
class Gesture:
    """Where an arm goes; the two directions need not be of length 1."""

    upper: Direction
    lower: Direction
    swing: float = 0.0
    """How far the lower arm swings out and in, for waving."""
    both: float = 0.0
    """Probability that the other arm does the same."""


@dataclass(frozen=True)
class WalkerWorld:
    """Settings of the synthetic walker world."""

    # Body
    stature: tuple[float, float] = (0.93, 1.05)
    """Factors on all lengths below."""
    thigh: float = 0.45
    shin: float = 0.44
    ankle: float = 0.08
    """Height of the ankle over the sole."""
    hip_width: float = 0.125
    shoulder_width: float = 0.17
    """Halves, from the middle to the joint."""
    spine: float = 0.24
    """From hip to spine, and from spine to thorax."""
    neck: float = 0.12
    head: float = 0.115
    upper_arm: float = 0.285
    lower_arm: float = 0.255

    # Gait
    speeds: tuple[tuple[str, float, float, float], ...] = (
        ("stand", 0.0, 0.0, 0.16), ("stroll", 0.5, 0.8, 0.24), ("walk", 0.9, 1.3, 0.44),
        ("jog", 1.7, 2.3, 0.16),
    )  # fmt: skip
    """Name, least and greatest speed, share."""
    mode_rate: float = 0.5
    """A person changes the pace."""
    acceleration: float = 2.0
    cadence: tuple[float, float] = (0.62, 0.26)
    """Gait cycles per second: at rest, and more per metre per second."""
    turn_rate: float = 0.5
    """A person picks another direction."""
    turn_spread: float = 1.1
    turn_speed: float = 2.4
    """Greatest angular speed."""
    turn_response: float = 0.35
    """Seconds that turning takes to follow."""
    arena: tuple[float, float] = (0.65, 0.85)
    """Half width and half depth of the floor that is walked on."""
    look_spread: float = 0.5
    """Standard deviation of the head's turn against the body."""
    look_time: float = 1.2

    # What else a person does
    gesture_rate: float = 0.5
    gesture_length: float = 1.8
    """Mean length of a gesture."""
    gesture_response: float = 0.16
    """Seconds that an arm takes to follow."""
    wave_frequency: float = 1.8
    gestures: tuple[Gesture, ...] = (
        Gesture((0.9, 0.15, 0.25), (0.15, 1.0, 0.1), swing=0.6),
        Gesture((0.25, 1.0, 0.15), (0.0, 1.0, 0.05), both=0.5),
        Gesture((0.15, -0.1, 1.0), (0.0, 0.1, 1.0), both=0.15),
        Gesture((0.75, -0.8, -0.3), (-0.8, -0.4, 0.35), both=0.6),
        Gesture((0.45, -0.8, 0.5), (-0.25, 1.0, 0.15), both=0.05),
        Gesture((1.0, 0.0, 0.1), (1.0, 0.05, 0.15), both=0.7),
        Gesture((0.2, -0.9, 0.45), (-0.85, 0.15, 0.5), both=0.7),
        Gesture((0.1, 0.5, 1.0), (0.0, 0.9, 0.6), both=0.3),
    )
    crouch_rate: float = 0.6
    """A standing person crouches, or jumps."""
    jump_share: float = 0.5
    jump_speed: float = 2.2
    crouch_length: tuple[float, float] = (0.8, 2.2)

    # Camera
    distance: tuple[float, float] = (5.5, 7.5)
    """From the camera to the middle of the floor."""
    camera_height: tuple[float, float] = (0.9, 1.7)
    view: float = 2.9
    """Metres across the shorter side of the picture in the middle of the floor."""
    view_centre: float = 1.05
    """Height of what is in the middle of the picture."""
    wall: tuple[float, float] = (1.6, 3.5)
    """Distance from the middle of the floor to the wall behind it."""

    def digest(self) -> str:
        """Hex digest of the settings and `WALKER_VERSION`."""
        return settings_digest({"version": WALKER_VERSION, "settings": asdict(self)})
