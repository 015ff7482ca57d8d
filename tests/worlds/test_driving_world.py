import math
from itertools import islice
from random import Random

import cv2
import numpy as np
import pytest

from hvp.errors import ConfigError
from hvp.labels import CITYSCAPES
from hvp.worlds.driving import world as driving
from hvp.worlds.driving.render import Renderer
from hvp.worlds.driving.road import Road
from hvp.worlds.driving.traffic import Traffic
from tests.helpers.worlds import drive

ID = {name: index for index, name in enumerate(CITYSCAPES.classes)}
SEEDS = range(6)
N_FRAMES = 40


@pytest.fixture(scope="module")
def clips():
    return [drive(seed, N_FRAMES) for seed in SEEDS]


def warp(image, flow, how):
    """Backward warp of `image`, and the mask of pixels that stay inside of it."""
    height, width = flow.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + flow[0], y + flow[1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return cv2.remap(image, x, y, how, borderMode=cv2.BORDER_REPLICATE), inside


def away_from_edges(labels):
    gradient = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return cv2.dilate(gradient, np.ones((3, 3), np.uint8)) == 0


def uncovered(flow):
    """Occlusion mask: pixels whose origin a distant pixel claims too, so that one was hidden."""
    height, width = flow.shape[1:]
    y, x = np.mgrid[:height, :width]
    at_x = np.clip(np.rint(x + flow[0]).astype(int), 0, width - 1)
    at_y = np.clip(np.rint(y + flow[1]).astype(int), 0, height - 1)
    origin = at_y * width + at_x
    spread = np.zeros(height * width)
    for axis in (x, y):
        low, high = np.full(height * width, 1e9), np.full(height * width, -1e9)
        np.minimum.at(low, origin.ravel(), axis.ravel())
        np.maximum.at(high, origin.ravel(), axis.ravel())
        spread = np.maximum(spread, high - low)
    return spread[origin] > 3


def pairs(clips):
    for clip in clips:
        for t in range(1, N_FRAMES):
            yield (
                clip.labels_THW[t - 1], clip.labels_THW[t],
                clip.frames_THW3[t - 1].astype(np.float32), clip.frames_THW3[t].astype(np.float32),
                clip.flow_T2HW[t],
            )  # fmt: skip


def test_shapes_dtypes_and_first_flow(clips):
    for clip in clips:
        assert clip.labels_THW.shape == (N_FRAMES, 64, 64)
        assert clip.labels_THW.dtype == np.uint8
        assert clip.frames_THW3.shape == (N_FRAMES, 64, 64, 3)
        assert clip.frames_THW3.dtype == np.uint8
        assert clip.flow_T2HW.shape == (N_FRAMES, 2, 64, 64)
        assert clip.flow_T2HW.dtype == np.float32
        assert not clip.flow_T2HW[0].any()
        assert np.isfinite(clip.flow_T2HW).all()


def test_same_seed_gives_same_bytes_and_a_longer_run_the_same_beginning():
    long, short = drive(3, 25), drive(3, 12)
    for name in ("labels_THW", "frames_THW3", "flow_T2HW"):
        np.testing.assert_array_equal(getattr(long, name)[:12], getattr(short, name))


def test_seeds_differ(clips):
    assert len({clip.labels_THW[0].tobytes() for clip in clips}) == len(clips)
    assert len({clip.frames_THW3[0].tobytes() for clip in clips}) == len(clips)


@pytest.mark.parametrize("size", [(32, 32), (48, 96), (128, 256), (70, 33)])
def test_any_size_shows_the_same_street(size):
    height, width = size
    labels, frames, flow = next(islice(driving.stream(4, size), 2, None))
    assert labels.shape == (height, width)
    assert frames.shape == (height, width, 3)
    assert flow.shape == (2, height, width)
    small, _, _ = next(islice(driving.stream(4, (64, 64)), 2, None))
    assert {ID["road"], ID["sky"]} <= set(np.unique(labels)) & set(np.unique(small))


def test_composition_is_a_street(clips):
    labels = np.stack([clip.labels_THW for clip in clips])
    CITYSCAPES.check(labels, "driving world")
    assert (labels < CITYSCAPES.n_classes).all()
    lower_middle = labels[..., 48:, 24:40]
    assert (lower_middle == ID["road"]).mean() > 0.85
    assert (labels[..., 40:, :] == ID["sky"]).sum() == 0
    assert (labels[..., :20, :] == ID["sky"]).mean() > 0.25
    assert (labels[..., :16, :] == ID["road"]).sum() == 0
    assert len(np.unique(labels)) >= 12
    shares = np.bincount(labels.ravel(), minlength=19) / labels.size
    expected = {
        "road": (0.25, 0.55), "sidewalk": (0.01, 0.2), "building": (0.03, 0.4),
        "vegetation": (0.05, 0.4), "sky": (0.08, 0.45), "car": (0.01, 0.2),
        "pole": (0.003, 0.05), "person": (0.0003, 0.05),
    }  # fmt: skip
    for name, (low, high) in expected.items():
        assert low < shares[ID[name]] < high, (name, shares[ID[name]])


def test_previous_labels_warped_by_the_flow_are_the_labels(clips):
    """Also the guard against flicker: `everywhere` holds edges, thin poles and far things too."""
    inner, everywhere = [], []
    for before, labels, _, _, flow in pairs(clips):
        moved, inside = warp(before, flow, cv2.INTER_NEAREST)
        same = moved == labels
        everywhere.append(same[inside].mean())
        inner.append(same[inside & away_from_edges(labels) & ~uncovered(flow)].mean())
    assert np.mean(inner) > 0.995
    assert np.mean(everywhere) > 0.945
    assert np.quantile(everywhere, 0.05) > 0.88


def test_previous_image_warped_by_the_flow_is_the_image(clips):
    errors = {scale: [] for scale in (0.0, 0.8, 1.0, 1.2)}
    for before, labels, old, new, flow in pairs(clips):
        if np.abs(flow).mean() < 0.3:
            continue
        textured = away_from_edges(labels) & (labels != ID["sky"]) & ~uncovered(flow)
        for scale, values in errors.items():
            moved, inside = warp(old, flow * np.float32(scale), cv2.INTER_LINEAR)
            source, _ = warp(before, flow * np.float32(scale), cv2.INTER_NEAREST)
            values.append(np.abs(moved - new)[textured & inside & (source == labels)].mean())
    mean = {scale: np.mean(values) for scale, values in errors.items()}
    assert len(errors[1.0]) > 60
    assert mean[1.0] < 2.5  # of 255
    assert mean[1.0] < 0.6 * mean[0.0]
    assert mean[1.0] < 0.9 * min(mean[0.8], mean[1.2])


def test_flow_of_ground_and_sky_is_the_projection_of_both_cameras():
    """Against a direct computation: pixel -> ray -> ground (or infinity) -> pixel before."""
    world, size = driving.DrivingWorld(), (64, 64)
    road = Road(world, Random(1))
    traffic = Traffic(world, road, Random(2), 0.1)
    renderer = Renderer(world, road, traffic, size, Random(3))
    renderer.draw()
    focal, cx, cy = world.focal * 64, 31.5, world.horizon * 64 - 0.5
    y, x = np.mgrid[:64, :64].astype(float)

    def rays(heading, pitch):
        """World direction of each pixel's ray."""
        right, up = (x - cx) / focal, -(y - cy) / focal
        level = math.cos(pitch) - up * math.sin(pitch)
        up = up * math.cos(pitch) + math.sin(pitch)
        c, s = math.cos(heading), math.sin(heading)
        return np.stack([right * c + level * s, up, -right * s + level * c])

    def pixels(point, heading, pitch):
        c, s = math.cos(heading), math.sin(heading)
        right, level = point[0] * c - point[2] * s, point[0] * s + point[2] * c
        up = point[1] * math.cos(pitch) - level * math.sin(pitch)
        depth = level * math.cos(pitch) + point[1] * math.sin(pitch)
        return cx + focal * right / depth, cy - focal * up / depth

    for _ in range(30):
        x0, z0, heading0, pitch0 = traffic.camera()
        traffic.step()
        x1, z1, heading1, pitch1 = traffic.camera()
        labels, _, flow = renderer.draw()
        ray = rays(heading1, pitch1)
        sky, ground = labels == ID["sky"], labels == ID["road"]
        old_x, old_y = pixels(ray, heading0, pitch0)
        np.testing.assert_allclose(flow[0][sky], (old_x - x)[sky], atol=2e-3)
        np.testing.assert_allclose(flow[1][sky], (old_y - y)[sky], atol=2e-3)
        # Below the far end of the road, where a pixel surely shows the ground.
        ground &= y > cy + 3
        with np.errstate(divide="ignore"):
            point = ray * (-world.camera_height / ray[1])
        point = point + np.array([x1 - x0, 0, z1 - z0])[:, None, None]
        old_x, old_y = pixels(point, heading0, pitch0)
        np.testing.assert_allclose(flow[0][ground], (old_x - x)[ground], atol=5e-3)
        np.testing.assert_allclose(flow[1][ground], (old_y - y)[ground], atol=5e-3)
        assert ground.sum() > 800


def test_moving_cars_have_their_own_flow(clips):
    """Oncoming cars outrun the street: on cars the flow beats that of the ground they cover."""
    own, none = [], []
    for before, labels, old, new, flow in pairs(clips):
        car = cv2.erode((labels == ID["car"]).astype(np.uint8), np.ones((3, 3))) > 0
        car &= ~uncovered(flow)
        moved, inside = warp(old, flow, cv2.INTER_LINEAR)
        source, _ = warp(before, flow, cv2.INTER_NEAREST)
        chosen = car & inside & (source == labels)
        if chosen.sum() > 15:
            own.append(np.abs(moved - new)[chosen].mean())
            none.append(np.abs(old - new)[chosen].mean())
    assert len(own) > 40
    assert np.mean(own) < 0.75 * np.mean(none)


def test_branches_share_the_past_and_part_later():
    at, n = 15, 60

    def frames(**branch):
        return list(islice(driving.stream(2, (32, 32), **branch), n))

    trunk = frames()
    futures = [frames(future_seed=seed, branch_at=at) for seed in (1, 2)]
    again = frames(future_seed=1, branch_at=at)
    for one, other in zip(futures[0], again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    for future in futures:
        for t in range(at):
            for one, other in zip(trunk[t], future[t], strict=True):
                np.testing.assert_array_equal(one, other)
    # The scene itself goes on: right after the branch the worlds still look alike ...
    assert (futures[0][at + 1][0] == futures[1][at + 1][0]).mean() > 0.95
    # ... and then they part.
    late = [(futures[0][t][0] != futures[1][t][0]).mean() for t in range(n - 10, n)]
    assert np.mean(late) > 0.04
    assert (trunk[-1][0] != futures[0][-1][0]).any()


def test_copying_the_last_frame_gets_worse_with_time(clips):
    def agreement(distance):
        return np.mean([
            (clip.labels_THW[distance:] == clip.labels_THW[:-distance]).mean() for clip in clips
        ])  # fmt: skip

    values = [agreement(distance) for distance in (1, 5, 20)]
    assert values[0] > values[1] + 0.03 > values[2] + 0.06


def test_recordings_keep_going_in_bounded_memory():
    world = driving.DrivingWorld()
    road = Road(world, Random(5))
    traffic = Traffic(world, road, Random(6), 0.1)
    sizes = []
    for _ in range(3000):
        traffic.step()
        movers = len(traffic.vehicles) + len(traffic.people)
        sizes.append(movers + len(road.x) + len(road.crossings))
    assert traffic.ego.s > 800
    assert max(sizes[1500:]) < 2 * max(sizes[:500])


def test_impossible_requests_are_config_errors():
    with pytest.raises(ConfigError, match="32x32"):
        driving.stream(0, (16, 64))
    with pytest.raises(ConfigError, match="frame_rate"):
        driving.stream(0, frame_rate=0)
    with pytest.raises(ConfigError, match="branch"):
        driving.stream(0, future_seed=1)


def test_digest_names_the_settings():
    world = driving.DrivingWorld()
    assert world.digest() == driving.DrivingWorld().digest()
    assert world.digest() != driving.DrivingWorld(camera_height=1.6).digest()
