"""Appearance of the person of the walker world: clothes, skin, hair, shading.

Surface coordinates are the part, the position along it, and the angle around it relative to the
body orientation: patterns stay on the clothes while the person turns.

Shapes: Q pixels of an image, N capsules.
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np

_SHIRT, _TROUSERS, _SKIN, _SHOES, _HAIR, _PRINT, _EYES = range(7)
_PATTERNS = ("plain", "rings", "stripes", "checks", "dots")


@dataclass(frozen=True)
class _Garment:
    colours: np.ndarray
    """(2, 3) RGB."""
    pattern: str
    period: float
    """Pattern period in torso lengths along the limb."""

    @staticmethod
    def draw(random: Random, patterns: tuple[str, ...]) -> "_Garment":
        hue, bright = random.random(), random.uniform(60, 235)
        one = _rgb(hue, random.uniform(0.1, 0.9), bright)
        two = _rgb(hue + random.uniform(0.2, 0.8), random.uniform(0.0, 0.8), 290 - bright)
        return _Garment(np.stack([one, two]), random.choice(patterns), random.uniform(0.16, 0.34))

    def share(self, along: np.ndarray, around: np.ndarray) -> np.ndarray:
        """Mixing weight of the second colour at `along` (torso lengths) and `around` (radians)."""
        ring = np.mod(along / self.period, 1.0) < 0.42
        stripe = np.mod(around * 4.5 / math.pi, 1.0) < 0.42
        if self.pattern == "rings":
            return ring.astype(float)
        if self.pattern == "stripes":
            return stripe.astype(float)
        if self.pattern == "checks":
            return 0.5 * ring + 0.5 * stripe
        if self.pattern == "dots":
            return (ring & stripe).astype(float)
        return np.zeros_like(along)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    channels = np.array([5.0, 3.0, 1.0])
    k = np.mod(channels + hue * 6.0, 6.0)
    return value * (1.0 - saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0))


class Appearance:
    """Appearance of the person in one recording: clothes, skin, hair, light."""

    def __init__(self, random: Random, names: tuple[str, ...]) -> None:
        """Draw an appearance.

        Args:
            random: random generator.
            names: names of the capsules (`hvp.worlds.body.capsules.Capsules`).
        """
        self._shirt = _Garment.draw(random, _PATTERNS)
        self._trousers = _Garment.draw(random, ("plain", "plain", "stripes", "checks"))
        tone = random.random()
        skin = (1 - tone) * np.array([238.0, 198, 170]) + tone * np.array([104.0, 68, 48])
        hair = [(40, 28, 22), (92, 58, 34), (188, 150, 88), (150, 72, 36), (150, 148, 146)]
        shoes, printed = _Garment.draw(random, ("plain",)), _Garment.draw(random, ("plain",))
        self._plain = np.zeros((7, 3))
        self._plain[_SKIN], self._plain[_HAIR] = skin, random.choice(hair)
        self._plain[_SHOES], self._plain[_PRINT] = shoes.colours[0], printed.colours[1]
        self._plain[_EYES] = (28, 22, 20)
        self._sleeve = random.choice((0.55, 0.55, 2.0, 2.0, 0.0))
        self._leg = random.choice((0.7, 2.0, 2.0, 1.2))
        """Ends of sleeves and trouser legs: 1 = elbow and knee, 2 = wrist and ankle."""
        self._has_print = random.random() < 0.5
        self._hair_length = random.uniform(0.25, 1.1)
        azimuth, height = random.uniform(-1.2, 1.2), random.uniform(0.2, 0.6)
        self._light = np.array([math.sin(azimuth), -height, math.cos(azimuth)])
        self._ambient, self._sun = random.uniform(0.5, 0.65), random.uniform(0.4, 0.6)
        self._kind = {kind: np.array([name.split()[0] == kind for name in names])
                      for kind in ("torso", "head", "hand", "foot")}  # fmt: skip
        self._limb = {kind: np.array([name.startswith(kind) for name in names])
                      for kind in ("upper arm", "lower arm", "upper leg", "lower leg")}  # fmt: skip

    def paint(
        self, n_Q: np.ndarray, along_Q: np.ndarray, across_Q: np.ndarray, down_Q: np.ndarray,
        axis_Q2: np.ndarray, orientation: float,
    ) -> np.ndarray:  # fmt: skip
        """Shaded colours (Q, 3) float, 0..255, of visible body pixels.

        Args:
            n_Q: capsule index.
            along_Q: coordinate along the capsule: 0 at its start, 1 at its end.
            across_Q: coordinate across the part, -1..1.
            down_Q: distance along the part from its origin, in torso lengths.
            axis_Q2: unit vector across the part, in the image.
            orientation: body orientation in radians: 0 = to the camera, pi/2 = to the right edge.
        """
        across = np.clip(across_Q, -1.0, 1.0)
        around = np.mod(np.arcsin(across) - orientation + math.pi, 2 * math.pi) - math.pi
        cover = self._covers(n_Q, along_Q, around, down_Q)
        colours = self._plain[cover]
        for kind, garment in ((_SHIRT, self._shirt), (_TROUSERS, self._trousers)):
            here = cover == kind
            share = garment.share(down_Q[here], around[here])[:, None]
            colours[here] = (1 - share) * garment.colours[0] + share * garment.colours[1]
        forward = np.sqrt(1.0 - across**2)
        facing = across[:, None] * axis_Q2 @ self._light[:2] + forward * self._light[2]
        lit = self._ambient + self._sun * np.maximum(facing, 0.0)
        return np.clip(colours * lit[:, None], 0, 255)

    def _covers(self, n: np.ndarray, along: np.ndarray, around: np.ndarray,
                down: np.ndarray) -> np.ndarray:  # fmt: skip
        """Material of each pixel: shirt, trousers, skin, ..."""
        cover = np.full(n.shape, _SKIN)
        for kind, garment, end, beyond in (
            ("upper arm", _SHIRT, self._sleeve, 0.0), ("lower arm", _SHIRT, self._sleeve, 1.0),
            ("upper leg", _TROUSERS, self._leg, 0.0), ("lower leg", _TROUSERS, self._leg, 1.0),
        ):  # fmt: skip
            cover[self._limb[kind][n] & (along + beyond < end)] = garment
        cover[self._kind["foot"][n]] = _SHOES
        torso = self._kind["torso"][n]
        cover[torso] = np.where(down[torso] < -0.08, _SHIRT, _TROUSERS)
        cover[torso & (down < -1.08)] = _SKIN  # the neck
        if self._has_print:
            here = torso & (np.abs(around) < 0.55) & (down > -0.85) & (down < -0.5)
            cover[here] = _PRINT
        head = self._kind["head"][n]
        behind = np.abs(around) > 1.15
        cover[head & (behind & (along < self._hair_length) | (along < 0.12))] = _HAIR
        eyes = head & (np.abs(np.abs(around) - 0.45) < 0.14) & (np.abs(along - 0.42) < 0.12)
        cover[eyes] = _EYES
        return cover
