"""Weather of the driving world: sunlight, haze, sky and ground colours."""

import math
from dataclasses import dataclass
from random import Random

import numpy as np


@dataclass(frozen=True)
class Weather:
    """Weather of one recording."""

    sun: np.ndarray
    """Sun direction (3,), unit vector."""
    sunlight: np.ndarray
    ambient: np.ndarray
    """Light intensities (3,), RGB factors."""
    haze: np.ndarray
    """Haze colour (3,), 0..255: of the horizon and of far objects."""
    visibility: float
    """Visibility in metres: distance at which 1/e of the colour is left."""
    sky: np.ndarray
    cloud: np.ndarray
    ground: np.ndarray
    """Palettes (3, 2, 3): two colours each of asphalt, paving and grass."""

    @staticmethod
    def draw(random: Random) -> "Weather":
        """Random mixture of two weather presets."""
        kinds = (
            # sunlight, ambient, haze, sky, cloud, visibility
            ((0.62, 0.60, 0.54), (0.56, 0.58, 0.64), (206, 220, 232), (86, 138, 206),
             (240, 244, 248), 900.0),
            ((0.14, 0.14, 0.14), (0.72, 0.74, 0.78), (196, 200, 204), (160, 168, 178),
             (206, 208, 210), 420.0),
            ((0.74, 0.52, 0.30), (0.44, 0.43, 0.48), (232, 196, 152), (112, 138, 182),
             (246, 214, 178), 600.0),
            ((0.10, 0.10, 0.14), (0.52, 0.54, 0.62), (112, 116, 138), (58, 70, 104),
             (98, 102, 124), 500.0),
            ((0.16, 0.16, 0.15), (0.70, 0.72, 0.73), (206, 208, 208), (190, 194, 198),
             (208, 210, 212), 170.0),
        )  # fmt: skip
        one, two = random.sample(kinds, 2)
        share = random.uniform(0.0, 0.45)
        mixed = [
            (1 - share) * np.asarray(a, float) + share * np.asarray(b, float)
            for a, b in zip(one, two, strict=True)
        ]
        sunlight, ambient, haze, sky, cloud, visibility = mixed
        azimuth, elevation = random.uniform(0, 2 * math.pi), random.uniform(0.35, 1.1)
        level = math.cos(elevation)
        sun = np.array([level * math.sin(azimuth), math.sin(elevation), level * math.cos(azimuth)])
        grey, green = random.uniform(72, 118), random.uniform(0.8, 1.1)
        asphalt = np.array([grey, grey, grey * random.uniform(0.96, 1.06)])
        grass = green * np.array([random.uniform(92, 128), 122, 62])
        ground = np.array([
            [asphalt, asphalt * 0.86],
            [asphalt * 1.3 + (22, 16, 8), asphalt * 0.9],
            [grass, grass * (0.72, 0.84, 0.7)],
        ])  # fmt: skip
        return Weather(sun, sunlight, ambient, haze, float(visibility), sky, cloud, ground)
