"""Data augmentation of whole clips: equal for all channels, determined by seed, epoch and clip."""

import torch

from hvp.clips import ClipBatch, ClipId
from hvp.data.augment import ClipAugmentation, crop, flip, resize
from hvp.labels import CITYSCAPES
from tests.helpers.small_reader import PAIRS


def clip_batch(n=6, size=(8, 10), n_classes=3):
    torch.manual_seed(0)
    return ClipBatch(
        labels_BTHW=torch.randint(n_classes, (n, 4, *size), dtype=torch.uint8),
        ids=[ClipId("a", i, 1) for i in range(n)],
        frames_BT3HW=torch.randint(256, (n, 4, 3, *size), dtype=torch.uint8),
        flow_BT2HW=torch.randn(n, 4, 2, *size),
    )


def test_flip_mirrors_labels_frames_and_flow_together_and_swaps_pairs():
    batch = clip_batch()
    flipped = flip(batch, torch.tensor([True, False] * 3), PAIRS)
    mirrored = batch.labels_BTHW[0].flip(-1)
    assert ((flipped.labels_BTHW[0] == 1) == (mirrored == 2)).all()
    assert ((flipped.labels_BTHW[0] == 2) == (mirrored == 1)).all()
    assert ((flipped.labels_BTHW[0] == 0) == (mirrored == 0)).all()
    assert torch.equal(flipped.frames_BT3HW[0], batch.frames_BT3HW[0].flip(-1))
    assert torch.equal(flipped.flow_BT2HW[0, :, 0], -batch.flow_BT2HW[0, :, 0].flip(-1))
    assert torch.equal(flipped.flow_BT2HW[0, :, 1], batch.flow_BT2HW[0, :, 1].flip(-1))
    for name in ("labels_BTHW", "frames_BT3HW", "flow_BT2HW"):
        assert torch.equal(getattr(flipped, name)[1], getattr(batch, name)[1])


def test_flipped_flow_still_points_to_the_same_pixels():
    """frame_t(p) = frame_{t-1}(p + flow(p)) holds before and after the flip."""
    previous = torch.randint(256, (1, 1, 3, 6, 9), dtype=torch.uint8)
    current = previous.roll(2, -1)  # everything moves 2 pixels to the right
    flow = torch.zeros(1, 2, 2, 6, 9)
    flow[:, 1, 0] = -2
    batch = ClipBatch(
        torch.zeros(1, 2, 6, 9, dtype=torch.uint8),
        [ClipId("a", 0, 1)],
        torch.cat([previous, current], 1),
        flow,
    )
    flipped = flip(batch, torch.tensor([True]), CITYSCAPES)
    x = torch.arange(9)
    source = (x + flipped.flow_BT2HW[0, 1, 0, 0].long()) % 9
    before, after = flipped.frames_BT3HW[0]
    assert torch.equal(after, before[..., source])


def test_augmentation_depends_on_seed_epoch_and_clip_only():
    batch = clip_batch(16)
    augment = ClipAugmentation(PAIRS, (6, 6), load_size=(7, 9), part_dropout=0.3, seed=3)
    once = augment(batch, 5)
    reversed_batch = ClipBatch(
        batch.labels_BTHW.flip(0), batch.ids[::-1], batch.frames_BT3HW.flip(0),
        batch.flow_BT2HW.flip(0),
    )  # fmt: skip
    again = augment(reversed_batch, 5)
    assert torch.equal(once.labels_BTHW, again.labels_BTHW.flip(0))
    assert torch.equal(once.frames_BT3HW, again.frames_BT3HW.flip(0))
    assert once.labels_BTHW.shape == (16, 4, 6, 6)
    assert once.frames_BT3HW.shape == (16, 4, 3, 6, 6)
    assert not torch.equal(once.frames_BT3HW, augment(batch, 6).frames_BT3HW)


def test_about_half_of_the_clips_are_flipped():
    batch = clip_batch(400, (2, 2))
    once = ClipAugmentation(CITYSCAPES, (2, 2))(batch, 0)
    kept = sum(
        torch.equal(a, b) for a, b in zip(once.frames_BT3HW, batch.frames_BT3HW, strict=True)
    )
    assert 150 < kept < 250


def test_crop_is_the_same_window_for_all_frames_and_channels():
    batch = clip_batch(2)
    cut = crop(batch, [(0, 4), (3, 1)], (5, 5))
    assert torch.equal(cut.labels_BTHW[1], batch.labels_BTHW[1, :, 3:8, 1:6])
    assert torch.equal(cut.frames_BT3HW[1], batch.frames_BT3HW[1, :, :, 3:8, 1:6])
    assert torch.equal(cut.flow_BT2HW[0], batch.flow_BT2HW[0, :, :, 0:5, 4:9])


def test_resize_keeps_ids_and_scales_flow():
    batch = clip_batch(2, (8, 8))
    batch.flow_BT2HW[:] = torch.tensor([2.0, 4.0])[:, None, None]
    small = resize(batch, (4, 2))
    assert small.labels_BTHW.dtype == torch.uint8
    assert set(small.labels_BTHW.unique().tolist()) <= {0, 1, 2}
    assert small.frames_BT3HW.dtype == torch.uint8
    assert torch.allclose(small.flow_BT2HW[:, :, 0], torch.tensor(0.5))
    assert torch.allclose(small.flow_BT2HW[:, :, 1], torch.tensor(2.0))
    average = batch.frames_BT3HW.float().mean()
    assert abs(small.frames_BT3HW.float().mean() - average) < 8


def test_part_dropout_removes_whole_parts_of_single_frames():
    batch = clip_batch(40, (8, 8))
    dropped = ClipAugmentation(PAIRS, (8, 8), flip=False, part_dropout=0.25)(batch, 0)
    changed = 0
    for before, after in zip(
        batch.labels_BTHW.flatten(0, 1), dropped.labels_BTHW.flatten(0, 1), strict=True
    ):
        for part in (1, 2):
            rest = after[before == part].unique().tolist()
            assert rest in ([part], [0])
            changed += rest == [0]
    assert 0.15 < changed / 320 < 0.35
    assert torch.equal(dropped.frames_BT3HW, batch.frames_BT3HW)
