"""Image files as a viewer shows them, in 8-bit RGB: orientation, bit depth, alpha, colour mode."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvp.errors import DataError
from hvp.pictures import open_rgb
from tests.helpers.raw_png import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, write_png


def draw(seed: int, channels: tuple[int, ...] = (3,), high: int = 256) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, high, (*rng.integers(2, 20, 2), *channels)).astype(np.uint16)


def shown(stored: np.ndarray, orientation: int) -> np.ndarray:
    """The EXIF specification: at which sides row 0 and column 0 are seen."""
    row, column = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    if row in ("left", "right"):
        stored = stored.swapaxes(0, 1)
    if "bottom" in (row, column):
        stored = stored[::-1]
    return stored[:, ::-1] if "right" in (row, column) else stored


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(tmp_path: Path, orientation: int) -> None:
    values = draw(orientation)
    expected = shown(values, orientation)
    plain = Image.fromarray(values.astype(np.uint8))
    exif = Image.Exif()
    exif[0x112] = orientation
    paths = [write_png(tmp_path / "late.png", values, RGB, orientation=orientation)]
    for name in ("a.png", "a.tif", "a.webp"):
        paths.append(tmp_path / name)
        plain.save(paths[-1], exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    for path in paths:
        np.testing.assert_array_equal(np.asarray(open_rgb(path)), expected, err_msg=path.name)

    plain.save(tmp_path / "plain.jpg")
    plain.save(tmp_path / "turned.jpg", exif=exif)
    np.testing.assert_array_equal(
        np.asarray(open_rgb(tmp_path / "turned.jpg")),
        shown(np.asarray(Image.open(tmp_path / "plain.jpg")), orientation),
    )


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01", b"x"])
def test_an_exif_that_says_nothing_turns_nothing(tmp_path: Path, exif: bytes) -> None:
    plain = Image.fromarray(draw(1).astype(np.uint8))
    plain.save(tmp_path / "a.jpg", exif=exif)
    plain.save(tmp_path / "b.jpg")
    a, b = open_rgb(tmp_path / "a.jpg"), open_rgb(tmp_path / "b.jpg")
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_pictures_keep_their_high_byte(tmp_path: Path, interlaced: bool) -> None:
    for seed, (kind, channels) in enumerate(((GREY, ()), (RGB, (3,)))):
        values = draw(seed, channels, 1 << 16)
        path = write_png(tmp_path / f"{kind}.png", values, kind, 16, interlaced=interlaced)
        expected = values // 256
        if kind == GREY:
            expected = np.stack([expected] * 3, axis=-1)
        np.testing.assert_array_equal(np.asarray(open_rgb(path)), expected)
    path = write_png(tmp_path / "key.png", values, RGB, 16, transparency=bytes(6))
    with pytest.raises(DataError, match=r"key\.png: a 16-bit PNG with a transparent colour"):
        open_rgb(path)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kind", [RGBA, GREY_ALPHA])
def test_opaque_alpha_is_dropped_and_any_other_refused(
    tmp_path: Path, kind: int, depth: int
) -> None:
    channels = 4 if kind == RGBA else 2
    values = draw(kind, (channels,), 1 << depth)
    values[..., -1] = (1 << depth) - 1
    path = write_png(tmp_path / "opaque.png", values, kind, depth)
    expected = np.broadcast_to(values[..., :-1] >> (depth - 8), (*values.shape[:2], 3))
    np.testing.assert_array_equal(np.asarray(open_rgb(path)), expected)
    values[-1, -1, -1] = 254 << (depth - 8)
    path = write_png(tmp_path / "clear.png", values, kind, depth)
    with pytest.raises(DataError, match=r"clear\.png: has transparent pixels \(alpha down to 254"):
        open_rgb(path)


def test_transparent_colours_and_palette_entries_count_where_they_are_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    palette = rng.permutation(256)[:24].reshape(8, 3)
    ids = rng.integers(0, 7, (9, 11))  # the last entry is not used
    path = tmp_path / "a.png"
    write_png(path, ids, PALETTE, 8, palette, transparency=bytes([255] * 7 + [0]))
    np.testing.assert_array_equal(np.asarray(open_rgb(path)), palette[ids])
    write_png(path, ids, PALETTE, 8, palette, transparency=bytes([255] * ids[2, 2] + [9]))
    with pytest.raises(DataError, match=r"transparent pixels \(alpha down to 9 of 255\)"):
        open_rgb(path)
    for values, kind in ((ids, GREY), (palette[ids], RGB)):
        unused = np.full(3 if kind == RGB else 1, 255)
        write_png(path, values, kind, transparency=unused.astype(">u2").tobytes())
        assert open_rgb(path).size == (11, 9)
        write_png(path, values, kind, transparency=values[0, 0].astype(">u2").tobytes())
        with pytest.raises(DataError, match="transparent pixels"):
            open_rgb(path)


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("F", "a.tif"), ("I", "a.tif")])
def test_pixels_without_one_right_conversion_are_refused(
    tmp_path: Path, mode: str, name: str
) -> None:
    Image.new(mode, (5, 4)).save(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: expected 8-bit RGB .*of mode {mode},"):
        open_rgb(tmp_path / name)


def test_16_bit_tiffs_keep_their_high_byte(tmp_path: Path) -> None:
    values = draw(9, (), 1 << 16)
    for order in "<>":
        array = values.astype(f"{order}u2")
        header = struct.pack(
            f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, 8
        )  # fmt: skip
        height, width = values.shape
        tags = [(256, 3, width), (257, 3, height), (258, 3, 16), (259, 3, 1), (262, 3, 1),
                (273, 4, 200), (278, 3, height), (279, 4, 2 * values.size)]  # fmt: skip
        fields = b"".join(
            struct.pack(f"{order}HHIHxx" if t == 3 else f"{order}HHII", tag, t, 1, v)
            for tag, t, v in tags
        )
        path = tmp_path / "a.tif"
        path.write_bytes((header + fields).ljust(200, b"\0") + array.tobytes())
        np.testing.assert_array_equal(np.asarray(open_rgb(path))[..., 1], values // 256)
