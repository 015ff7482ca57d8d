"""Label map PNGs: the ids of any bit depth, and palettes that contradict the classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvp.errors import DataError
from hvp.label_pictures import open_labels, save_labels
from hvp.labels import CITYSCAPES, DENSEPOSE, IGNORE, LabelSpace
from tests.helpers.raw_png import GREY, PALETTE, RGB, write_png
from tests.test_pictures import shown

VOC = np.array(
    [[sum((i >> (3 * bit + c) & 1) << (7 - bit) for bit in range(3)) for c in range(3)]
     for i in range(256)]
)  # fmt: skip
GREY_RAMP = np.repeat(np.arange(256)[:, None], 3, axis=1)
WEB_SAFE = np.stack(np.meshgrid(*[np.arange(0, 256, 51)] * 3, indexing="ij"), -1).reshape(-1, 3)


def draw(seed: int, n_ids: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, n_ids, rng.integers(3, 40, 2)).astype(np.uint8)


def read(path: Path, space: LabelSpace | None = CITYSCAPES) -> np.ndarray:
    return np.asarray(open_labels(path, space))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", [GREY, PALETTE])
def test_ids_of_every_bit_depth(tmp_path: Path, kind: int, depth: int, interlaced: bool) -> None:
    for seed in range(3):
        ids = draw(seed, min(1 << depth, 19))
        palette = np.array(CITYSCAPES.palette)[: 1 << depth] if kind == PALETTE else None
        path = write_png(tmp_path / "a.png", ids, kind, depth, palette, interlaced)
        np.testing.assert_array_equal(read(path), ids)


def test_16_bit_ids_are_read_exactly_or_refused(tmp_path: Path) -> None:
    ids = draw(1, 256)
    np.testing.assert_array_equal(read(write_png(tmp_path / "a.png", ids, GREY, 16)), ids)
    wide = ids.astype(np.uint16)
    wide[1, 1] = 1000
    with pytest.raises(DataError, match=r"a\.png: a 16-bit label map with the value 1000"):
        read(write_png(tmp_path / "a.png", wide, GREY, 16))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", [GREY, PALETTE])
def test_label_maps_are_turned_as_their_exif_says(
    tmp_path: Path, kind: int, orientation: int
) -> None:
    ids, colours = draw(orientation, 19), np.array(CITYSCAPES.palette)
    order = np.random.default_rng(orientation).permutation(19) if kind == PALETTE else np.arange(19)
    palette = colours[order] if kind == PALETTE else None
    path = write_png(tmp_path / "a.png", ids, kind, 8, palette, orientation=orientation)
    np.testing.assert_array_equal(read(path), shown(order[ids], orientation))


@pytest.mark.parametrize("space", [CITYSCAPES, DENSEPOSE])
def test_ids_numbered_per_file_are_mapped_by_colour(tmp_path: Path, space: LabelSpace) -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth = draw(seed, space.n_classes)[:4, :4]  # few classes, as in a frame
        truth[0, 0] = 0
        colours = np.array(space.palette)[truth]
        path = tmp_path / "a.png"
        # As Pillow numbers the colours that are there, and with the rest padded.
        picture = Image.fromarray(colours.astype(np.uint8)).quantize(256, Image.Quantize.FASTOCTREE)
        picture.save(path)
        assert (np.asarray(picture.convert("RGB")) == colours).all()
        np.testing.assert_array_equal(read(path, space), truth)
        present = rng.permutation(np.unique(truth))
        ids = np.argsort(present)[np.searchsorted(np.sort(present), truth)]
        padded = np.zeros((256, 3))
        padded[: len(present)] = np.array(space.palette)[present]
        np.testing.assert_array_equal(read(write_png(path, ids, PALETTE, 8, padded), space), truth)
        ids[-1, -1] = IGNORE  # stays what it is
        assert read(write_png(path, ids, PALETTE, 8, padded), space)[-1, -1] == IGNORE


@pytest.mark.parametrize("space", [CITYSCAPES, DENSEPOSE])
def test_the_palette_of_the_classes_and_foreign_ones_leave_ids(
    tmp_path: Path, space: LabelSpace
) -> None:
    gimp = np.random.default_rng(0).integers(1, 255, (256, 3)) | 1  # no class of these is all odd
    for seed in range(3):
        ids = draw(seed, space.n_classes)
        path = tmp_path / "a.png"
        save_labels(path, ids, space)
        np.testing.assert_array_equal(read(path, space), ids)
        for palette in (VOC, GREY_RAMP, gimp, WEB_SAFE):
            used = [tuple(colour) for colour in palette[: space.n_classes].tolist()]
            assert not set(used) & set(space.palette) - {(0, 0, 0)}
            write_png(path, ids, PALETTE, 8, palette)
            np.testing.assert_array_equal(read(path, space), ids)


def test_black_at_0_is_no_sign_of_a_class(tmp_path: Path) -> None:
    space = LabelSpace("void last", ("a", "b", "void"), ((9, 8, 7), (200, 1, 3), (0, 0, 0)))
    ids = draw(0, 3)
    for maps in (ids, np.zeros_like(ids)):
        path = write_png(tmp_path / "a.png", maps, PALETTE, 8, VOC)
        np.testing.assert_array_equal(read(path, space), maps)
    path = write_png(tmp_path / "a.png", ids, PALETTE, 8, np.array(space.palette)[::-1])
    np.testing.assert_array_equal(read(path, space), 2 - ids)


def test_ids_of_another_numbering_do_not_look_at_the_palette(tmp_path: Path) -> None:
    ids = draw(0, 19)
    path = write_png(tmp_path / "a.png", ids, PALETTE, 8, np.array(CITYSCAPES.palette)[::-1])
    np.testing.assert_array_equal(read(path, None), ids)


def some_foreign(palette: np.ndarray) -> None:
    palette[5] = 1, 2, 3


def same_twice(palette: np.ndarray) -> None:
    palette[5] = palette[6]


def foreign_unused(palette: np.ndarray) -> None:
    palette[100] = 1, 2, 3


@pytest.mark.parametrize("spoil", [some_foreign, same_twice, foreign_unused])
def test_palettes_that_do_not_tell_the_classes_are_refused(tmp_path: Path, spoil) -> None:
    palette = np.zeros((256, 3))
    palette[:19] = np.roll(CITYSCAPES.palette, 1, axis=0)
    ids = np.arange(19).reshape(1, 19)
    path = tmp_path / "a.png"
    np.testing.assert_array_equal(read(write_png(path, ids, PALETTE, 8, palette)), (ids - 1) % 19)
    spoil(palette)
    write_png(path, ids, PALETTE, 8, palette)
    with pytest.raises(DataError, match=r"a\.png: its palette gives id 0 the colour \[119, 11, 32"):
        read(path)


def test_classes_that_share_a_colour_are_not_told_by_it(tmp_path: Path) -> None:
    space = LabelSpace("twins", ("a", "b", "c"), ((9, 8, 7), (9, 8, 7), (1, 2, 3)))
    ids = draw(1, 3)
    path = write_png(tmp_path / "a.png", ids, PALETTE, 8, np.array(space.palette))
    np.testing.assert_array_equal(read(path, space), ids)
    path = write_png(tmp_path / "a.png", ids[:, :1] * 0, PALETTE, 8, np.array([[1, 2, 3]]))
    np.testing.assert_array_equal(read(path, space), ids[:, :1] * 0 + 2)
    path = write_png(tmp_path / "a.png", ids % 2, PALETTE, 8, np.array([[1, 2, 3], [9, 8, 7]]))
    with pytest.raises(DataError, match="not each of its colours belongs to one class"):
        read(path, space)


def test_colours_are_no_ids(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", np.zeros((3, 4, 3), int), RGB)
    with pytest.raises(DataError, match=r"a\.png: a label map must be .* found PNG of mode RGB"):
        read(path)
