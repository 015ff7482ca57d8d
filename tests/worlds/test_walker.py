"""Walker world: the person stays in view, planted feet do not slide, futures differ."""

from itertools import islice
from random import Random

import cv2
import numpy as np
import pytest

from hvp.errors import ConfigError
from hvp.labels import DENSEPOSE
from hvp.worlds.body.capsules import PART
from hvp.worlds.body.skeleton import Joint
from hvp.worlds.walker import world as walker
from hvp.worlds.walker.motion import Person
from tests.helpers.worlds import walk

N_FRAMES = 40


@pytest.fixture(scope="module")
def clips():
    return [walk(seed, N_FRAMES) for seed in range(6)]


def motion(seed, seconds, world=None):
    """Joints (T, 17, 3), headings and speeds of a walk at 25 Hz."""
    world = world or walker.WalkerWorld()
    mover = Person(world, Random(f"body {seed}"), Random(f"motion {seed}"), 1 / 25)
    found = []
    for _ in range(round(seconds * 25)):
        mover.step()
        found.append((mover.joints(), mover.heading, mover.speed))
    joints, headings, speeds = zip(*found, strict=True)
    return np.stack(joints), np.array(headings), np.array(speeds)


def test_shapes_dtypes_and_classes(clips):
    for clip in clips:
        assert clip.labels_THW.shape == (N_FRAMES, 64, 64)
        assert clip.labels_THW.dtype == np.uint8
        assert clip.frames_THW3.shape == (N_FRAMES, 64, 64, 3)
        assert clip.frames_THW3.dtype == np.uint8
        assert clip.joints_TJ2.shape == (N_FRAMES, 17, 2)
        assert clip.depth_TJ.shape == (N_FRAMES, 17)
        DENSEPOSE.check(clip.labels_THW, "walker world")
    seen = set(np.unique(np.stack([clip.labels_THW for clip in clips])).tolist())
    assert seen == set(range(25))


def test_same_seed_gives_same_bytes_and_a_longer_run_the_same_beginning():
    long, short = walk(3, 25), walk(3, 7)
    for name in ("labels_THW", "frames_THW3", "joints_TJ2", "depth_TJ"):
        np.testing.assert_array_equal(getattr(long, name)[:7], getattr(short, name))
    assert not np.array_equal(long.labels_THW, walk(4, 25).labels_THW)


def test_the_motion_does_not_depend_on_the_size_of_the_image():
    small, large = walk(5, 3, (48, 48)), walk(5, 3, (96, 96))
    np.testing.assert_allclose((large.joints_TJ2 + 0.5) / 2, small.joints_TJ2 + 0.5, atol=1e-9)
    wide = walk(5, 3, (48, 96))
    np.testing.assert_allclose(wide.joints_TJ2[..., 1], small.joints_TJ2[..., 1], atol=1e-9)


def test_joints_alone_are_those_of_the_painted_walk():
    painted = list(islice(walker.stream(2, (32, 32), 25.0, view=3), 20))
    joints = walker.walk_joints(2, 20, (32, 32), 25.0, view=3)
    np.testing.assert_array_equal(joints, np.stack([frame.joints for frame in painted]))


def test_person_stays_in_the_image():
    for seed in range(25):
        joints = walker.walk_joints(seed, 120, (64, 64), 12.5)
        assert joints.min() > 2, seed  # hands reach two pixels beyond their wrists
        assert joints.max() < 61, seed


def test_labels_are_where_the_joints_are(clips):
    for clip in clips:
        for labels, joints in zip(clip.labels_THW, clip.joints_TJ2, strict=True):
            x, y = np.rint(joints).astype(int).T
            within = [joint for joint in Joint if joint != Joint.NOSE]  # the nose sticks out
            assert (labels[y, x] > 0)[within].all()
            left, right = (labels[y[j], x[j]] for j in (Joint.L_FOOT, Joint.R_FOOT))
            assert DENSEPOSE.classes[left][:5] in ("foot ", "lower", "upper", "hand ")
            assert DENSEPOSE.classes[right][:5] in ("foot ", "lower", "upper", "hand ")


def test_bones_keep_their_lengths():
    joints, _, _ = motion(1, 12)
    bones = [(1, 2), (2, 3), (4, 5), (5, 6), (0, 7), (7, 8), (11, 12), (12, 13), (14, 15), (15, 16)]
    for start, end in bones:
        length = np.linalg.norm(joints[:, start] - joints[:, end], axis=-1)
        assert np.ptp(length) < 0.03 * length.mean(), (start, end)


def test_a_foot_is_on_the_floor_except_in_a_jump():
    world = walker.WalkerWorld(speeds=(("stand", 0.0, 0.0, 1.0),))
    jumping = np.concatenate([motion(seed, 12, world)[0] for seed in range(4)])
    walking = motion(1, 12, walker.WalkerWorld(crouch_rate=0.0))[0]
    feet = [Joint.L_FOOT, Joint.R_FOOT]
    np.testing.assert_allclose(walking[:, feet, 1].min(1), 0.08, atol=0.01)
    lowest = jumping[:, feet, 1].min(1)
    assert lowest.min() > 0.07
    assert 0.15 < lowest.max() < 0.5  # somebody jumped
    assert 0.8 < (lowest < 0.09).mean() < 1.0
    assert jumping[:, Joint.HIP, 1].min() < 0.7  # and somebody crouched


@pytest.mark.parametrize("speed", [0.8, 1.3, 2.0])
def test_a_walker_puts_one_foot_before_the_other_without_sliding(speed):
    """On a floor without end, without turns."""
    world = walker.WalkerWorld(
        arena=(90.0, 90.0), turn_rate=0.0, mode_rate=0.0, speeds=(("walk", speed, speed, 1.0),)
    )
    joints, _, speeds = motion(1, 8, world)
    assert np.allclose(speeds, speed)
    feet = joints[:, [Joint.L_FOOT, Joint.R_FOOT]][:, :, [0, 2]]
    lower = joints[:, [Joint.L_FOOT, Joint.R_FOOT], 1].argmin(1)[:-1]
    moved = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * 25 / speed
    standing, swinging = (
        moved[np.arange(len(lower)), lower],
        moved[np.arange(len(lower)), 1 - lower],
    )
    assert np.median(standing) < 0.45  # a foot that slid along with the body would give 1
    assert np.median(swinging) > 1.1
    assert 10 < (np.diff(lower) != 0).sum() < 30  # steps in eight seconds


def test_branches_share_the_past_and_part_later():
    at, n = 12, 60

    def frames(**branch):
        return list(islice(walker.stream(2, (32, 32), 12.5, **branch), n))

    trunk = frames()
    futures = [frames(future_seed=seed, branch_at=at) for seed in (1, 2, 3)]
    for one, again in zip(futures[0], frames(future_seed=1, branch_at=at), strict=True):
        np.testing.assert_array_equal(one.rgb, again.rgb)
    for future in futures:
        for t in range(at):
            np.testing.assert_array_equal(trunk[t].labels, future[t].labels)
            np.testing.assert_array_equal(trunk[t].rgb, future[t].rgb)
    late = [np.stack([frame.joints for frame in future[-20:]]) for future in [trunk, *futures]]
    apart = [np.abs(late[i] - late[j]).mean() for i in range(4) for j in range(i)]
    assert min(apart) > 0.5  # pixels, of 32
    assert np.mean(apart) > 1.5


def test_rgb_tells_what_labels_do_not(clips):
    """Shirts differ between recordings, where labels call them all torso."""
    torso = [PART["torso front"], PART["torso back"]]
    shirts = np.array([
        clip.frames_THW3[np.isin(clip.labels_THW, torso)].mean(0) for clip in clips
    ])  # fmt: skip
    spread = np.abs(shirts[:, None] - shirts[None]).sum(-1)[np.triu_indices(len(clips), 1)]
    assert np.median(spread) > 60
    for clip in clips:
        inside = clip.frames_THW3[clip.labels_THW > 0].astype(float)
        assert inside.std(0).mean() > 12  # textures and shading, not one colour
        person = (clip.labels_THW.max(0) > 0).astype(np.uint8)
        away = cv2.dilate(person, np.ones((3, 3), np.uint8))[:20] == 0
        wall = clip.frames_THW3[:, :20][:, away].astype(float)
        assert wall.std(0).max() < 1.0  # walls do not flicker


def test_views_show_one_motion_from_around():
    front, side, back = (
        next(walker.stream(5, (64, 64), 25.0, view=view)) for view in (0, 1, 2)
    )  # fmt: skip
    across = [f.joints[Joint.L_SHOULDER, 0] - f.joints[Joint.R_SHOULDER, 0] for f in (front, back)]
    assert abs(across[0]) > 2
    assert across[0] == pytest.approx(-across[1], rel=0.35)
    heights = [np.ptp(frame.joints[:, 1]) for frame in (front, side, back)]
    assert max(heights) < 1.3 * min(heights)


def test_impossible_requests_are_config_errors():
    with pytest.raises(ConfigError, match="32x32"):
        walker.stream(0, (16, 64))
    with pytest.raises(ConfigError, match="frame_rate"):
        walker.stream(0, frame_rate=0)
    with pytest.raises(ConfigError, match="branch"):
        walker.stream(0, future_seed=1)
