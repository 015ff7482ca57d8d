"""2D skeleton of Human3.6M (17 joints): torso length and body orientation from joints.

Coordinates are pixels, x to the right and y down; `right` and `left` in joint names are the
person's own.

Shapes: T frames, J = 17 joints.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.ndimage import gaussian_filter1d, percentile_filter


class Joint(IntEnum):
    """Joint index in arrays of 17."""

    HIP = 0
    R_HIP = 1
    R_KNEE = 2
    R_FOOT = 3
    L_HIP = 4
    L_KNEE = 5
    L_FOOT = 6
    SPINE = 7
    THORAX = 8
    NOSE = 9
    HEAD = 10
    L_SHOULDER = 11
    L_ELBOW = 12
    L_WRIST = 13
    R_SHOULDER = 14
    R_ELBOW = 15
    R_WRIST = 16


N_JOINTS = len(Joint)
JOINTS_OF_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Indices of the 17 joints among the 32 recorded ones."""
MIRRORED = (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13)
"""Left/right swap: the joint that takes each joint's place in a mirror image."""

_SIZE_WINDOW = 31
"""Window in frames of the percentile filter of the torso length (bending shortens it)."""
_TURN_SMOOTHING = 2.0
_SIDE_SMOOTHING = 6.0
"""Gaussian smoothing of the orientation cues: standard deviations in frames."""
_NARROWEST_SHOULDERS = 0.55
"""Minimum shoulder width seen from the front, in torso lengths."""
_SURE_SIDE = 0.05
"""Knee offset to one side, in torso lengths, of a person surely seen from the side."""


@dataclass(frozen=True)
class BodyOrientation:
    """Body orientation per frame: components of a unit vector (shorter where uncertain)."""

    towards_T: np.ndarray
    """(T,) 1 = faces the camera, -1 = seen from the back."""
    right_T: np.ndarray
    """(T,) 1 = faces the right edge of the image, -1 = the left edge."""


def torso(joints_TJ2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shoulder centre and hip centre, (T, 2) each."""
    shoulders = joints_TJ2[:, [Joint.L_SHOULDER, Joint.R_SHOULDER]].mean(1)
    hips = joints_TJ2[:, [Joint.L_HIP, Joint.R_HIP]].mean(1)
    return shoulders, hips


def torso_length(joints_TJ2: np.ndarray) -> np.ndarray:
    """Torso length (T,) in pixels, shoulder centre to hip centre: about 0.47 m of a person.

    A percentile filter over frames (80th) follows a person who comes nearer, but not one who bends.
    At least one pixel.
    """
    shoulders, hips = torso(joints_TJ2)
    seen = np.linalg.norm(shoulders - hips, axis=-1)
    return np.maximum(percentile_filter(seen, 80, size=_SIZE_WINDOW, mode="nearest"), 1.0)


def perpendicular(direction: np.ndarray) -> np.ndarray:
    """Perpendicular unit vector (..., 2) of a direction (..., 2): points right for one that points
    down. A direction of length 0 counts as down.
    """
    length = np.linalg.norm(direction, axis=-1, keepdims=True)
    unit = np.where(length > 1e-6, direction / np.maximum(length, 1e-6), (0.0, 1.0))
    return np.stack([unit[..., 1], -unit[..., 0]], axis=-1)


def estimate_orientation(joints_TJ2: np.ndarray) -> BodyOrientation:
    """Estimate the body orientation from 2D joints (T, J, 2).

    Front or back: the left-right order of the shoulders. Angle: their apparent width. Side: the
    knees (they bend forward) and the nose.
    """
    shoulders, hips = torso(joints_TJ2)
    right_T2, length_T = perpendicular(hips - shoulders), torso_length(joints_TJ2)

    def measure(offset_T2: np.ndarray) -> np.ndarray:
        return (offset_T2 * right_T2).sum(-1) / length_T

    j = {joint: joints_TJ2[:, joint] for joint in Joint}
    width = measure(j[Joint.L_SHOULDER] - j[Joint.R_SHOULDER])
    widest = max(float(np.quantile(np.abs(width), 0.95)), _NARROWEST_SHOULDERS)
    towards = np.clip(gaussian_filter1d(width, _TURN_SMOOTHING, mode="nearest") / widest, -1, 1)
    knees = [
        measure(j[knee] - (j[hip] + j[foot]) / 2)
        for hip, knee, foot in (
            (Joint.L_HIP, Joint.L_KNEE, Joint.L_FOOT),
            (Joint.R_HIP, Joint.R_KNEE, Joint.R_FOOT),
        )
    ]
    nose = measure(j[Joint.NOSE] - (j[Joint.THORAX] + j[Joint.HEAD]) / 2)
    side = gaussian_filter1d(sum(knees) + nose, _SIDE_SMOOTHING, mode="nearest")
    return BodyOrientation(towards, np.sqrt(1 - towards**2) * np.clip(side / _SURE_SIDE, -1, 1))
