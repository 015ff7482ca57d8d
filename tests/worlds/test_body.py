"""Body part maps from joints: sides, orientation, sizes, occlusion, mirror images."""

import cv2
import numpy as np
import pytest

from hvp.labels import DENSEPOSE
from hvp.worlds.body.capsules import PART, bounding_box, capsules
from hvp.worlds.body.skeleton import MIRRORED, BodyOrientation, Joint, estimate_orientation
from tests.helpers.worlds import mirror, part_maps, walk

SIZE = (64, 64)


@pytest.fixture(scope="module")
def walks():
    return [walk(seed, 40, SIZE) for seed in range(6)]


def standing(towards=1.0, right=0.0):
    """A person with arms held away from the body, 48 pixels high, and where it faces."""
    sign = 1.0 if towards >= 0 else -1.0
    points = {
        "HIP": (32, 32), "SPINE": (32, 26), "THORAX": (32, 20), "NOSE": (32, 16), "HEAD": (32, 13),
        "L_HIP": (35, 32), "L_KNEE": (36, 44), "L_FOOT": (37, 55), "L_SHOULDER": (37, 20),
        "L_ELBOW": (44, 24), "L_WRIST": (50, 28),
    }  # fmt: skip
    joints = np.zeros((1, 17, 2))
    for name, (x, y) in points.items():
        joints[0, Joint[name]] = 32 + sign * (x - 32), y
        if name.startswith("L_"):
            joints[0, Joint[f"R_{name[2:]}"]] = 32 - sign * (x - 32), y
    return joints, BodyOrientation(np.array([towards]), np.array([right]))


def column_of(labels, part):
    return np.nonzero(labels == PART[part])[-1].mean()


@pytest.mark.parametrize("with_depth", [False, True])
def test_mirrored_joints_give_the_mirrored_map_with_sides_swapped(walks, with_depth):
    rng = np.random.default_rng(0)
    shaken = [walks[0].joints_TJ2 + rng.normal(0, 6, walks[0].joints_TJ2.shape)]
    for joints in [*(one.joints_TJ2 for one in walks), *shaken]:
        depth = rng.normal(0, 3, joints.shape[:2]) if with_depth else None
        other_depth = None if depth is None else depth[:, MIRRORED]
        labels = part_maps(capsules(joints, depth), SIZE)
        mirrored = part_maps(capsules(mirror(joints, SIZE[1]), other_depth), SIZE)
        np.testing.assert_array_equal(mirrored, DENSEPOSE.flip_table()[labels[..., ::-1]])
        assert len(np.unique(labels)) > 10


def test_person_who_faces_the_camera_shows_fronts_with_the_left_side_on_the_right():
    labels = part_maps(capsules(*standing()[:1], orientation=standing()[1]), SIZE)[0]
    for kind in ("hand {}", "foot {}", "head {}", "upper arm {} front", "lower arm {} front",
                 "upper leg {} front", "lower leg {} front"):  # fmt: skip
        assert column_of(labels, kind.format("L")) > 32 > column_of(labels, kind.format("R"))
    assert (labels == PART["torso front"]).sum() > 60
    assert not any(" back" in DENSEPOSE.classes[part] for part in np.unique(labels))


def test_person_who_turns_the_back_shows_backs_with_the_left_side_on_the_left():
    joints, orientation = standing(towards=-1.0)
    labels = part_maps(capsules(joints, orientation=orientation), SIZE)[0]
    for kind in ("hand {}", "head {}", "upper arm {} back", "lower leg {} back"):
        assert column_of(labels, kind.format("L")) < 32 < column_of(labels, kind.format("R"))
    assert not any(" front" in DENSEPOSE.classes[part] for part in np.unique(labels))


def test_person_seen_from_the_side_shows_both_surfaces_and_one_half_of_the_head():
    joints, orientation = standing(towards=0.0, right=1.0)
    joints[..., 0] = 32 + (joints[..., 0] - 32) * 0.1
    labels = part_maps(capsules(joints, orientation=orientation), SIZE)[0]
    assert column_of(labels, "torso front") > column_of(labels, "torso back") + 1
    assert (labels == PART["head R"]).sum() > 10
    assert not (labels == PART["head L"]).any()
    assert column_of(labels, "foot R") > 34  # toes point to where the person faces


def test_depth_decides_whether_an_arm_hides_the_body():
    joints, orientation = standing()
    joints[0, Joint.L_ELBOW], joints[0, Joint.L_WRIST] = (34, 24), (30, 28)  # before the belly
    body = {}
    for name, depth in (("before", -8.0), ("behind", 8.0)):
        depths = np.zeros((1, 17))
        depths[0, [Joint.L_ELBOW, Joint.L_WRIST]] = depth
        body[name] = part_maps(capsules(joints, depths, orientation), SIZE)[0]
    arm = PART["lower arm L front"]
    assert (body["before"] == arm).sum() > 8
    assert not (body["behind"] == arm).any()
    unknown = part_maps(capsules(joints, orientation=orientation), SIZE)[0]
    assert (unknown == arm).sum() > 8  # arms are painted after the torso


def test_near_leg_hides_the_far_one_without_depth():
    joints, _ = standing()
    joints[0, [Joint.L_HIP, Joint.L_KNEE, Joint.L_FOOT]] = (32, 32), (32, 44), (32, 55)
    joints[0, [Joint.R_HIP, Joint.R_KNEE, Joint.R_FOOT]] = (32, 32), (32, 44), (32, 55)
    for right, near, far in ((0.9, "R", "L"), (-0.9, "L", "R")):
        orientation = BodyOrientation(np.array([0.4]), np.array([right]))
        labels = part_maps(capsules(joints, orientation=orientation), SIZE)[0]
        assert (labels == PART[f"lower leg {near} front"]).sum() > 5
        assert not (labels == PART[f"lower leg {far} front"]).any()


def test_limbs_grow_with_the_torso():
    joints, orientation = standing()
    small = part_maps(capsules(joints, orientation=orientation), SIZE)[0]
    large = part_maps(capsules(joints * 4, orientation=orientation), (256, 256))[0]
    assert (large > 0).sum() == pytest.approx(16 * (small > 0).sum(), rel=0.06)
    bent, bent_facing = np.repeat(joints, 9, 0), BodyOrientation(np.ones(9), np.zeros(9))
    bent[4, [Joint.THORAX, Joint.NOSE, Joint.HEAD, Joint.L_SHOULDER, Joint.R_SHOULDER], 1] = 30
    legs = [np.isin(m, [PART["upper leg L front"]]).sum()
            for m in part_maps(capsules(bent, orientation=bent_facing), SIZE)[[3, 4]]]  # fmt: skip
    assert legs[1] == pytest.approx(legs[0], abs=12)  # who bends forward does not shrink


def test_thin_limbs_stay_in_one_piece(walks):
    for one in walks[:3]:
        labels = part_maps(capsules((one.joints_TJ2 + 0.5) / 3 - 0.5), (22, 22))
        for label_map in labels:
            count, _ = cv2.connectedComponents((label_map > 0).astype(np.uint8), connectivity=8)
            assert count == 2  # the background and one person


def test_extent_holds_everything_that_is_painted(walks):
    body = capsules(walks[0].joints_TJ2)
    left, top, right, bottom = bounding_box(body)
    y, x = np.nonzero(part_maps(body, SIZE).any(0))
    assert left <= x.min() <= left + 2
    assert top <= y.min() <= top + 2
    assert right - 2 <= x.max() <= right
    assert bottom - 2 <= y.max() <= bottom


def test_joints_alone_nearly_give_the_map_that_depth_gives(walks):
    """The world knows depth and where its person faces; the estimate must mostly agree."""
    agreement, front = [], []
    for one in walks:
        person = one.labels_THW > 0
        guessed = part_maps(capsules(one.joints_TJ2), SIZE)
        agreement.append((guessed == one.labels_THW)[person].mean())
        towards = estimate_orientation(one.joints_TJ2).towards_T
        shown = [np.isin(m, [PART["torso front"]]).sum() - np.isin(m, [PART["torso back"]]).sum()
                 for m in one.labels_THW]  # fmt: skip
        sure = np.abs(towards) > 0.3
        front += (np.sign(shown)[sure] == np.sign(towards)[sure]).tolist()
    assert np.mean(agreement) > 0.75
    assert len(front) > 100
    assert np.mean(front) > 0.97
