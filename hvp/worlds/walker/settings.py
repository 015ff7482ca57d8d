"""Settings of the synthetic walker world: all constants, with a digest.

Units: metres, seconds, metres per second, radians; rates are expected events per second. Arm
directions are (out, up, forward): `out` is away from the middle of the body on either side.
"""

from dataclasses import asdict, dataclass

from hvp.files import settings_digest

WALKER_VERSION = 1
"""Code version of the world, part of its digest: raise it when the rendering changes."""

Direction = tuple[float, float, float]


@dataclass(frozen=True)
class Gesture:
    """Arm gesture: directions of upper and lower arm (any length)."""

    upper: Direction
    lower: Direction
    swing: float = 0.0
    """Amplitude of the lower arm's swing out and in, for waving."""
    both: float = 0.0
    """Probability that both arms make the gesture."""


@dataclass(frozen=True)
class WalkerWorld:
    """Settings of the synthetic walker world."""

    # Body
    stature: tuple[float, float] = (0.93, 1.05)
    """Range of the scale of all body lengths below."""
    thigh: float = 0.45
    shin: float = 0.44
    ankle: float = 0.08
    """Ankle height over the sole."""
    hip_width: float = 0.125
    shoulder_width: float = 0.17
    """Half widths, from the middle to the joint."""
    spine: float = 0.24
    """Hip to spine, and spine to thorax."""
    neck: float = 0.12
    head: float = 0.115
    upper_arm: float = 0.285
    lower_arm: float = 0.255

    # Gait
    speeds: tuple[tuple[str, float, float, float], ...] = (
        ("stand", 0.0, 0.0, 0.16), ("stroll", 0.5, 0.8, 0.24), ("walk", 0.9, 1.3, 0.44),
        ("jog", 1.7, 2.3, 0.16),
    )  # fmt: skip
    """Gait modes: name, minimum and maximum speed, probability."""
    mode_rate: float = 0.5
    """Rate of gait mode changes."""
    acceleration: float = 2.0
    cadence: tuple[float, float] = (0.62, 0.26)
    """Cadence, gait cycles per second: at rest, and increase per m/s."""
    turn_rate: float = 0.5
    """Rate of direction changes."""
    turn_spread: float = 1.1
    turn_speed: float = 2.4
    """Maximum angular speed."""
    turn_response: float = 0.35
    """Time constant of turning."""
    arena: tuple[float, float] = (0.65, 0.85)
    """Half width and half depth of the walkable floor."""
    look_spread: float = 0.5
    """Standard deviation of the head yaw relative to the body."""
    look_time: float = 1.2

    # What else a person does
    gesture_rate: float = 0.5
    gesture_length: float = 1.8
    """Mean duration of a gesture."""
    gesture_response: float = 0.16
    """Time constant of the arms in a gesture."""
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
    """Rate at which a standing person crouches or jumps."""
    jump_share: float = 0.5
    jump_speed: float = 2.2
    crouch_length: tuple[float, float] = (0.8, 2.2)

    # Camera
    distance: tuple[float, float] = (5.5, 7.5)
    """Distance from the camera to the centre of the floor."""
    camera_height: tuple[float, float] = (0.9, 1.7)
    view: float = 2.9
    """Field of view in metres at the centre of the floor, along the shorter image side."""
    view_centre: float = 1.05
    """Height above the floor at the image centre."""
    wall: tuple[float, float] = (1.6, 3.5)
    """Distance from the centre of the floor to the wall behind."""

    def digest(self) -> str:
        """SHA-256 (hex) of the settings and `WALKER_VERSION`."""
        return settings_digest({"version": WALKER_VERSION, "settings": asdict(self)})
