"""The walker world: a person who stays in view, walks on the floor, and may do many things."""

from itertools import islice
from random import Random

import cv2
import numpy as np
import pytest

from hvp.clips import ClipId
from hvp.data.readers.densepose import DensePoseReader
from hvp.data.readers.worlds import WalkerWorldReader
from hvp.data.store import prepare
from hvp.data.synthetic.write_pose import main, write_densepose
from hvp.errors import ConfigError
from hvp.labels import DENSEPOSE
from hvp.worlds.body.capsules import PART
from hvp.worlds.body.skeleton import Joint
from hvp.worlds.seeds import named_seed
from hvp.worlds.walker import settings as walker_settings
from hvp.worlds.walker import world as walker
from hvp.worlds.walker.motion import Person

N_FRAMES = 40


@pytest.fixture(scope="module")
def clips():
    return [walker.walk(seed, N_FRAMES) for seed in range(6)]


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
    long, short = walker.walk(3, 25), walker.walk(3, 7)
    for name in ("labels_THW", "frames_THW3", "joints_TJ2", "depth_TJ"):
        np.testing.assert_array_equal(getattr(long, name)[:7], getattr(short, name))
    assert not np.array_equal(long.labels_THW, walker.walk(4, 25).labels_THW)


def test_the_motion_does_not_depend_on_the_size_of_the_picture():
    small, large = walker.walk(5, 3, (48, 48)), walker.walk(5, 3, (96, 96))
    np.testing.assert_allclose((large.joints_TJ2 + 0.5) / 2, small.joints_TJ2 + 0.5, atol=1e-9)
    wide = walker.walk(5, 3, (48, 96))
    np.testing.assert_allclose(wide.joints_TJ2[..., 1], small.joints_TJ2[..., 1], atol=1e-9)


def test_joints_alone_are_those_of_the_painted_walk():
    painted = list(islice(walker.stream(2, (32, 32), 25.0, view=3), 20))
    joints = walker.walk_joints(2, 20, (32, 32), 25.0, view=3)
    np.testing.assert_array_equal(joints, np.stack([frame.joints for frame in painted]))


def test_person_stays_in_the_picture():
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
    with pytest.raises(ConfigError, match="n_frames"):
        walker.walk(0, 0)


def reader(**changes):
    options = {
        "n_train": 2, "n_val": 1, "n_test": 1, "frames_per_recording": 4, "frame_rate": 12.5,
    }  # fmt: skip
    return WalkerWorldReader(**{**options, **changes})


def test_reader_gives_part_maps_and_rgb_of_one_walk(tmp_path):
    data = prepare(reader(), tmp_path, (32, 48), ["labels", "frames"])
    assert [r.name for r in data.recordings] == [
        "walker-train-0000", "walker-train-0001", "walker-val-0000", "walker-test-0000",
    ]  # fmt: skip
    clips = [ClipId(r.name, 0, 1) for r in data.recordings]
    assert data.read("frames", clips[0], 4).shape == (4, 3, 32, 48)
    assert len({data.read("labels", clip, 4).tobytes() for clip in clips}) == 4
    assert data.label_space.n_classes == 25


def test_settings_follow_the_version_and_the_options(monkeypatch):
    before = reader().settings()
    assert before == reader().settings()
    assert before != reader(seed=1).settings()
    assert before != reader(frame_rate=25.0).settings()
    monkeypatch.setattr(walker_settings, "WALKER_VERSION", 0)
    assert before != reader().settings()


def test_written_densepose_reads_back_as_the_walks(tmp_path):
    counts = {"train": 1, "val": 1, "test": 1}
    write_densepose(tmp_path / "dance", counts, n_frames=3, size=(48, 48), frames=True)
    source = DensePoseReader(tmp_path / "dance")
    assert [(r.name, r.split, r.n_frames) for r in source.recordings()] == [
        ("V00001/C00001", "train", 3), ("V00002/C00001", "val", 3), ("V00003/C00001", "test", 3),
    ]  # fmt: skip
    first = list(source.read(source.recordings()[0], (48, 48), ["labels", "frames"]))
    world = islice(walker.stream(named_seed(0, "V00001"), (48, 48), 25.0), 3)
    for arrays, frame in zip(first, world, strict=True):
        np.testing.assert_array_equal(arrays["labels"], frame.labels)
        np.testing.assert_array_equal(arrays["frames"], frame.rgb)


def test_densepose_writer_is_a_command(tmp_path):
    command = ["densepose", str(tmp_path / "a/dance"), "--train", "1", "--val", "0", "--test", "1",
               "--frames", "2", "--size", "32"]  # fmt: skip
    assert main(command) == 0
    assert len(list((tmp_path / "a/dance").rglob("*_IUV.png"))) == 4
    assert not list((tmp_path / "a").glob(".*"))
