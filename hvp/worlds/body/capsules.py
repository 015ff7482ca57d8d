"""Capsule body model: tapered capsules around 17 joints, with DensePose part ids.

Sizes are fractions of the torso length. A capsule has up to two part ids, one on each side of a
line along it: front and back of a limb seen from the side, right and left half of the head.

Shapes: T frames, J = 17 joints, N capsules of the body.
"""

from dataclasses import dataclass

import numpy as np

from hvp.labels import DENSEPOSE
from hvp.worlds.body.skeleton import (
    BodyOrientation,
    Joint,
    estimate_orientation,
    perpendicular,
    torso,
    torso_length,
)

PART = {name: index for index, name in enumerate(DENSEPOSE.classes)}
"""Part id of every DensePose class."""


@dataclass(frozen=True)
class Capsules:
    """Capsules of one body in T frames, in pixels."""

    names: tuple[str, ...]
    """Body part of each of the N capsules: `torso`, `upper leg L`, ..., `hand R`, `head`."""
    start_TN2: np.ndarray
    end_TN2: np.ndarray
    """Centres of the two end spheres."""
    radius_TN2: np.ndarray
    """Radii of the start and of the end."""
    depth_TN2: np.ndarray | None
    """Depth of the two centres in pixels, away from the camera; None = painter's order."""
    order_TN: np.ndarray
    """Painter's order, used where depth is unknown."""
    origin_TN2: np.ndarray
    axis_TN2: np.ndarray
    """Coordinate across the part: (pixel - origin) . axis, -1..1; to the right if it hangs down."""
    split_TN: np.ndarray
    """Coordinate across the part at which the id changes."""
    part_TN2: np.ndarray
    """Part ids (uint8) below and above the split."""


@dataclass(frozen=True)
class _CapsuleSpec:
    """Specification of one capsule: joints at its ends, radii in torso lengths."""

    name: str
    layer: int
    side: str
    start: Joint
    end: Joint
    radii: tuple[float, float]
    reach: tuple[float, float] = (0.0, 1.0)
    """End points as fractions of the way between (or beyond) the two joints."""


def _both_sides(name: str, layer: int, start: str, end: str, radii: tuple[float, float],
                reach: tuple[float, float] = (0.0, 1.0)) -> list[_CapsuleSpec]:  # fmt: skip
    return [
        _CapsuleSpec(
            f"{name} {s}", layer, s, Joint[f"{s}_{start}"], Joint[f"{s}_{end}"], radii, reach
        )
        for s in ("L", "R")
    ]


_TORSO, _LEGS, _ARMS, _HEAD = range(4)
# Parts that share a joint have different radii there: equal surfaces would z-fight.
_BODY: tuple[_CapsuleSpec, ...] = (
    _CapsuleSpec("torso", _TORSO, "", Joint.THORAX, Joint.HIP, (0.20, 0.22)),
    _CapsuleSpec("torso", _TORSO, "", Joint.L_SHOULDER, Joint.HIP, (0.15, 0.22)),
    _CapsuleSpec("torso", _TORSO, "", Joint.R_SHOULDER, Joint.HIP, (0.15, 0.22)),
    _CapsuleSpec("torso", _TORSO, "", Joint.L_SHOULDER, Joint.L_HIP, (0.12, 0.17)),
    _CapsuleSpec("torso", _TORSO, "", Joint.R_SHOULDER, Joint.R_HIP, (0.12, 0.17)),
    _CapsuleSpec("torso", _TORSO, "", Joint.L_SHOULDER, Joint.R_SHOULDER, (0.14, 0.14)),
    _CapsuleSpec("torso", _TORSO, "", Joint.L_HIP, Joint.R_HIP, (0.17, 0.17)),
    _CapsuleSpec("torso", _TORSO, "", Joint.HEAD, Joint.THORAX, (0.10, 0.12), (0.6, 1.0)),
    # The foot's second end is placed separately: there is no joint of the toes.
    *_both_sides("foot", _LEGS, "KNEE", "FOOT", (0.09, 0.08), (1.0, 1.0)),
    *_both_sides("lower leg", _LEGS, "KNEE", "FOOT", (0.125, 0.08)),
    *_both_sides("upper leg", _LEGS, "HIP", "KNEE", (0.18, 0.13)),
    *_both_sides("hand", _ARMS, "ELBOW", "WRIST", (0.075, 0.065), (1.1, 1.35)),
    *_both_sides("lower arm", _ARMS, "ELBOW", "WRIST", (0.085, 0.068)),
    *_both_sides("upper arm", _ARMS, "SHOULDER", "ELBOW", (0.115, 0.09)),
    _CapsuleSpec("head", _HEAD, "", Joint.HEAD, Joint.THORAX, (0.19, 0.16), (-0.05, 0.35)),
)
_FOOT_FORWARD, _FOOT_DOWN = 0.36, 0.13
"""Position of the toes relative to the ankle: along the foot seen from the side, along the leg."""
_THINNEST = 0.75
"""Minimum radius in pixels: thinner limbs would break into single pixels."""


def capsules(
    joints_TJ2: np.ndarray,
    depth_TJ: np.ndarray | None = None,
    orientation: BodyOrientation | None = None,
    length_T: np.ndarray | None = None,
    thinnest: float = _THINNEST,
) -> Capsules:
    """Fit the capsule model to 2D joints.

    Args:
        joints_TJ2: x and y in pixels of the output image, consecutive frames.
        depth_TJ: depth of the joints in pixels, away from the camera; None = unknown: then the
            painter's order is torso, far leg, near leg, far arm, near arm, head.
        orientation: body orientation; None = `estimate_orientation`.
        length_T: torso lengths in pixels; None = `torso_length`.
        thinnest: minimum radius in pixels.
    """
    joints = np.asarray(joints_TJ2, np.float64)
    orientation = estimate_orientation(joints) if orientation is None else orientation
    length_T = torso_length(joints) if length_T is None else length_T
    starts, ends = _ends(joints)
    _place_toes(starts, ends, joints, orientation, length_T)
    radii = np.array([shape.radii for shape in _BODY]) * length_T[:, None, None]
    depth = None
    if depth_TJ is not None:
        depth = np.stack(_ends(np.asarray(depth_TJ, np.float64)[..., None]), axis=2)[..., 0]
    origin, axis = _cross_axes(joints, starts, ends, radii)
    split, part = _ids(orientation)
    return Capsules(
        names=tuple(shape.name for shape in _BODY),
        start_TN2=starts,
        end_TN2=ends,
        radius_TN2=np.maximum(radii, thinnest),
        depth_TN2=depth,
        order_TN=_order(orientation),
        origin_TN2=origin,
        axis_TN2=axis,
        split_TN=split,
        part_TN2=part,
    )


def bounding_box(body: Capsules) -> np.ndarray:
    """Bounding box (4,) float of a body over all frames: left, top, right, bottom."""
    reach = body.radius_TN2[..., None]
    points = np.stack([body.start_TN2, body.end_TN2], axis=2)
    low, high = (points - reach).min((0, 1, 2)), (points + reach).max((0, 1, 2))
    return np.concatenate([low, high])


def _ends(values_TJK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint values at both ends of every capsule, (T, N, K) each."""
    start = values_TJK[:, [shape.start for shape in _BODY]]
    end = values_TJK[:, [shape.end for shape in _BODY]]
    first, second = np.array([shape.reach for shape in _BODY]).T[:, :, None]
    return start + first * (end - start), start + second * (end - start)


def _place_toes(starts: np.ndarray, ends: np.ndarray, joints: np.ndarray,
                orientation: BodyOrientation, length_T: np.ndarray) -> None:  # fmt: skip
    for n, shape in enumerate(_BODY):
        if shape.name.startswith("foot"):
            leg = joints[:, shape.end] - joints[:, shape.start]
            side = perpendicular(leg)
            down = np.stack([-side[:, 1], side[:, 0]], axis=-1)
            forward = _FOOT_FORWARD * orientation.right_T[:, None] * side
            ends[:, n] = starts[:, n] + length_T[:, None] * (forward + _FOOT_DOWN * down)


def _cross_axes(joints: np.ndarray, starts: np.ndarray, ends: np.ndarray,
                   radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Origins and axes of the coordinate across each part; the torso's capsules share one."""
    origin = starts.copy()
    axis = perpendicular(ends - starts) / radii.max(-1, keepdims=True)
    shoulders, hips = torso(joints)
    right = perpendicular(hips - shoulders)
    sides = [Joint.L_SHOULDER, Joint.R_SHOULDER, Joint.L_HIP, Joint.R_HIP]
    offsets = ((joints[:, sides] - hips[:, None]) * right[:, None]).sum(-1)
    span = np.abs(offsets).max(-1) + radii[:, 0].max(-1)
    for n, shape in enumerate(_BODY):
        if shape.layer == _TORSO:
            origin[:, n] = hips
            axis[:, n] = right / span[:, None]
    return origin, axis


def _ids(orientation: BodyOrientation) -> tuple[np.ndarray, np.ndarray]:
    """Part id split of each capsule (T, N), and the ids on both sides (T, N, 2).

    For a person who faces the right edge, the front lies right of the line along the middle of the
    near side; that line moves from one outline to the other as the person turns. The head is split
    at the middle of the face, or of the back of the head.
    """
    towards, right = orientation.towards_T, orientation.right_T
    split = np.zeros((len(towards), len(_BODY)))
    part = np.zeros((*split.shape, 2), np.uint8)
    to_right = right >= 0
    for n, shape in enumerate(_BODY):
        if shape.name == "head":
            split[:, n] = np.where(towards >= 0, right, -right)
            left_above = np.where(towards >= 0, PART["head L"], PART["head R"])
            part[:, n, 1] = left_above
            part[:, n, 0] = PART["head R"] + PART["head L"] - left_above
        elif shape.name in PART:  # hands and feet have one id each
            part[:, n] = PART[shape.name]
        else:
            split[:, n] = np.where(to_right, -towards, towards)
            front, back = PART[f"{shape.name} front"], PART[f"{shape.name} back"]
            part[:, n, 0] = np.where(to_right, back, front)
            part[:, n, 1] = np.where(to_right, front, back)
    return split, part


def _order(orientation: BodyOrientation) -> np.ndarray:
    """Painter's order of the capsules (T, N): layer by layer, the far side of each first."""
    near = np.where(orientation.right_T >= 0, "R", "L")
    orders = {
        side: sorted(range(len(_BODY)), key=lambda n: (_BODY[n].layer, _BODY[n].side == side))
        for side in ("L", "R")
    }
    return np.array([orders[side] for side in near])
