"""Settings of the synthetic driving world: all constants, with a digest.

Units: metres, seconds, metres per second, radians; rates are expected events per second.
"""

from dataclasses import asdict, dataclass

from hvp.files import settings_digest

WORLD_VERSION = 2
"""Code version of the world, part of its digest: raise it when the rendering changes."""


@dataclass(frozen=True)
class VehicleKind:
    """Vehicle class: label, dimensions, frequency."""

    label: str
    """Cityscapes class name."""
    length: tuple[float, float]
    width: float
    height: tuple[float, float]
    share: float
    """Relative frequency in traffic."""
    parks: bool
    """Whether it also parks."""


@dataclass(frozen=True)
class District:
    """District: road and roadside parameters of one stretch."""

    speed: float
    """Mean desired speed of the traffic."""
    lanes: tuple[int, ...]
    """Possible numbers of lanes per direction."""
    parking: float
    """Probability of a parking lane per side."""
    occupancy: float
    """Fraction of occupied parking spaces."""
    sidewalk: tuple[float, float]
    """Width of the sidewalks."""
    verge: float
    """Probability of a grass verge between road and sidewalk."""
    building: float
    """Probability that a lot has a building (else trees, fence, wall, hedge or grass)."""
    floors: tuple[int, int]
    setback: tuple[float, float]
    """Distance between sidewalk and facade."""
    gabled: float
    """Probability of a gabled roof."""
    tree_gap: tuple[float, float]
    """Distance between two street trees."""
    people: float
    """Pedestrians per metre of road (both sidewalks together)."""


@dataclass(frozen=True)
class DrivingWorld:
    """Settings of the synthetic driving world."""

    # Camera
    camera_height: float = 1.5
    horizon: float = 0.44
    """Row of the horizon as a fraction of the image height, from the top."""
    focal: float = 0.84
    """Focal length as a fraction of sqrt(H * W): horizontal field of view 62 degrees for a square
    image, 80 for one twice as wide as high."""
    near: float = 0.3
    """Near plane."""
    far: float = 180.0
    """View range along the road (objects there are a few pixels, in front of the skyline)."""
    pitch_per_acceleration: float = 0.0025
    """Pitch of the car per acceleration, radians per m/s^2."""
    pitch_noise: float = 0.0025
    pitch_relaxation: float = 0.4
    """Time constant of the pitch."""

    # Road
    segment: float = 4.0
    """Distance between two vertices of the centre line."""
    lane_width: float = 3.3
    parking_width: float = 2.3
    max_heading: float = 0.65
    """Maximum angle of the road from north, so that it never bends back into view."""
    bend_curvature: tuple[float, float] = (0.003, 0.013)
    bend_length: tuple[float, float] = (25.0, 110.0)
    straight_share: float = 0.4
    stretch: tuple[float, float] = (90.0, 240.0)
    """Distance between two crossings."""
    crossing_segments: tuple[int, int] = (2, 3)
    """Width of a crossing street in segments."""
    light_share: float = 0.5
    """Share of crossings with traffic lights."""
    ground_reach: float = 34.0
    """Half width of the road strips; terrain lies beyond."""
    dash: tuple[float, float] = (3.0, 8.0)
    """Length and period of dashed lane markings."""
    districts: tuple[District, ...] = (
        District(12.5, (1, 2), 0.8, 0.6, (2.2, 4.0), 0.2, 0.9, (3, 7), (0.0, 1.5), 0.1,
                 (10.0, 26.0), 0.09),
        District(11.0, (1,), 0.6, 0.45, (1.6, 2.4), 0.6, 0.62, (1, 3), (3.0, 7.0), 0.8,
                 (9.0, 22.0), 0.04),
        District(15.5, (1, 2), 0.15, 0.3, (1.2, 1.8), 0.8, 0.22, (1, 3), (6.0, 13.0), 0.6,
                 (6.0, 14.0), 0.012),
    )  # fmt: skip
    district_weights: tuple[float, ...] = (0.45, 0.33, 0.22)

    # Traffic
    vehicles: tuple[VehicleKind, ...] = (
        VehicleKind("car", (3.9, 4.7), 1.8, (1.4, 1.55), 0.62, True),
        VehicleKind("car", (4.4, 5.2), 1.95, (1.75, 2.1), 0.20, True),
        VehicleKind("truck", (7.0, 10.0), 2.4, (3.0, 3.7), 0.07, False),
        VehicleKind("bus", (10.0, 12.0), 2.5, (2.9, 3.2), 0.04, False),
        VehicleKind("motorcycle", (2.0, 2.2), 0.7, (1.6, 1.75), 0.03, False),
        VehicleKind("bicycle", (1.7, 1.8), 0.6, (1.65, 1.8), 0.04, False),
    )
    cycling_speed: float = 5.0
    speed_spread: float = 0.22
    """Relative standard deviation of the drivers' desired speeds."""
    wish_rate: float = 0.10
    """Rate at which a driver changes the desired speed."""
    brake_rate: float = 0.035
    """Rate at which a driver brakes for no visible reason."""
    release_rate: float = 0.45
    """Rate at which such braking ends."""
    brake_deceleration: float = 2.6
    lane_change_rate: float = 0.05
    pull_out_rate: float = 0.012
    """Rate at which a parked car in range pulls out."""
    leaver_share: float = 0.15
    """Fraction of the parked cars that may pull out."""
    acceleration: float = 1.7
    comfort_braking: float = 2.2
    max_braking: float = 6.5
    headway: float = 1.2
    standstill: float = 2.5
    """Minimum gap of the IDM, behind a standing car."""
    gap_ahead: float = 42.0
    """Mean initial gap between two vehicles of a lane."""
    gap_oncoming: float = 48.0
    ahead: bool = True
    """Whether vehicles drive ahead of the camera, which then follows them."""
    wander: float = 0.22
    """Standard deviation of the position within the lane."""
    wander_time: float = 4.0
    steering: tuple[float, float] = (0.7, 1.6)
    """Stiffness (1/s^2) and damping (1/s) of the lateral control."""
    lateral_acceleration: float = 2.2
    """Comfortable lateral acceleration; limits the desired speed in bends."""
    light_rates: tuple[float, float, float] = (0.08, 0.5, 0.18)
    """Rates at which green, yellow and red end."""
    cross_rate: float = 0.35
    """Vehicles per second on the crossing street while our light is red."""
    overtake_rate: float = 0.04
    """Rate of faster vehicles from behind, where there is a second lane."""

    # People
    walking_speed: tuple[float, float] = (0.8, 1.7)
    cross_street_rate: float = 0.012
    """Rate at which a pedestrian starts to cross the road."""
    turn_rate: float = 0.02
    """Rate at which a pedestrian turns round or stops."""

    # Scenery
    lot: tuple[float, float] = (9.0, 21.0)
    """Length of a lot along the road."""
    house_gaps: tuple[float, ...] = (0.0, 0.0, 1.5, 3.5)
    """Possible free lengths of a built-up lot, equally likely."""
    tree_height: tuple[float, float] = (4.5, 8.5)
    floor_height: float = 3.1
    building_depth: float = 11.0
    lamp_gap: tuple[float, float] = (24.0, 38.0)
    sign_gap: tuple[float, float] = (22.0, 70.0)
    skyline: tuple[float, float] = (18.0, 52.0)
    """Heights of the far skyline, seen at `skyline_distance`."""
    skyline_distance: float = 900.0
    cloud_height: float = 500.0

    def digest(self) -> str:
        """SHA-256 (hex) of the settings and `WORLD_VERSION`."""
        return settings_digest({"version": WORLD_VERSION, "settings": asdict(self)})


AVENUE = DrivingWorld(
    pitch_noise=0.0,
    straight_share=1.0, stretch=(4000.0, 4000.0), light_share=0.0,
    districts=(
        District(
            speed=12.5, lanes=(1,), parking=0.0, occupancy=0.0, sidewalk=(3.0, 3.0), verge=0.0,
            building=1.0, floors=(3, 3), setback=(1.0, 1.0), gabled=0.0, tree_gap=(12.5, 12.5),
            people=0.01,
        ),
    ),
    district_weights=(1.0,),
    speed_spread=0.0, wish_rate=0.0, brake_rate=0.0, lane_change_rate=0.0, overtake_rate=0.0,
    wander=0.0, ahead=False, gap_oncoming=80.0, cross_street_rate=0.0, turn_rate=0.0,
    lot=(12.5, 12.5), house_gaps=(3.5,), tree_height=(7.0, 7.0), lamp_gap=(25.0, 25.0),
    sign_gap=(25.0, 25.0),
)  # fmt: skip
"""Avenue with a predictable future: straight and periodic, driven along at 12.5 m/s.

A tree, a house and a gap every 12.5 m, lamps and signs every 25 m, for four kilometres. Random are
the phase, the appearance of each object, and the traffic: the first frames show what the rest of
the street looks like."""
