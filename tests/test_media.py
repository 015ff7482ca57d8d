"""Video and GIF files decode to the frames that were written; image grids and borders."""

import struct
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from hvp.errors import DataError
from hvp.labels import CITYSCAPES
from hvp.media import frame_border, lossless_writer, read_frames, tile, write_gif, write_mp4


def noise(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def stripes(height: int, width: int) -> np.ndarray:
    """Vertical stripes in the colours of ten classes, 4 pixels wide (H, W, 3)."""
    classes = np.broadcast_to(np.arange(width) // 4 % 10, (height, width))
    return CITYSCAPES.colourise(classes)


def write_lossless(path: Path, frames: np.ndarray) -> None:
    with lossless_writer(path, fps=25) as add:
        for frame in frames:
            add(frame)


@pytest.mark.parametrize("size", [(64, 64), (63, 65), (1, 1), (2, 128)], ids=str)
def test_lossless_video_is_bit_exact(tmp_path, size):
    frames = noise(7, *size)
    write_lossless(tmp_path / "a.mkv", frames)
    np.testing.assert_array_equal(list(read_frames(tmp_path / "a.mkv")), frames)


def test_lossless_video_depends_on_its_frames_only(tmp_path):
    write_lossless(tmp_path / "a.mkv", noise(3, 16, 16))
    write_lossless(tmp_path / "b.mkv", noise(3, 16, 16))
    write_lossless(tmp_path / "c.mkv", noise(3, 16, 16)[::-1])
    a, b, c = ((tmp_path / f"{name}.mkv").read_bytes() for name in "abc")
    assert a == b != c


def test_mp4_is_what_browsers_play(tmp_path):
    write_mp4(tmp_path / "a.mp4", [stripes(32, 40)] * 6, fps=12.5, scale=4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.height, stream.width, stream.frames) == (128, 160, 6)
        assert stream.average_rate == 12.5
        if "libx264" in av.codec.codecs_available:
            assert stream.codec_context.name == "h264"


def test_mp4_shows_the_colours_and_sharp_squares(tmp_path):
    picture = stripes(32, 40)
    write_mp4(tmp_path / "a.mp4", [picture] * 3, fps=10, scale=8)
    for frame in read_frames(tmp_path / "a.mp4"):
        centres = frame[4::8, 4::8].astype(int)
        assert abs(centres - picture).max() <= 12
        assert abs(centres - picture).mean() <= 3


def test_no_encoder_complains(tmp_path, caplog):
    write_mp4(tmp_path / "a.mp4", noise(2, 16, 16), fps=10)
    write_lossless(tmp_path / "a.mkv", noise(2, 16, 16))
    assert not caplog.records


def test_mp4_frames_keep_their_order(tmp_path):
    levels = [20, 200, 90, 140, 60]
    frames = (np.full((16, 16, 3), level, np.uint8) for level in levels)  # any iterable
    write_mp4(tmp_path / "a.mp4", frames, fps=10)
    decoded = [frame.mean() for frame in read_frames(tmp_path / "a.mp4")]
    np.testing.assert_allclose(decoded, levels, atol=4)


def test_mp4_pads_odd_sizes_by_repeating_the_edge(tmp_path):
    frame = np.full((33, 65, 3), 180, np.uint8)
    write_mp4(tmp_path / "a.mp4", [frame], fps=10)
    (decoded,) = read_frames(tmp_path / "a.mp4")
    assert decoded.shape == (34, 66, 3)
    assert abs(decoded.astype(int) - 180).max() <= 4


def test_gif_plays_all_frames_for_ever(tmp_path):
    frames = [np.roll(stripes(12, 40), 4 * n, axis=1) for n in range(4)]
    write_gif(tmp_path / "a.gif", frames, fps=10, scale=2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (4, 0, 100)
        for number, frame in enumerate(frames):
            gif.seek(number)
            shown = np.asarray(gif.convert("RGB"))
            np.testing.assert_array_equal(shown[::2, ::2], frame)
            np.testing.assert_array_equal(shown[1::2, 1::2], frame)


@pytest.mark.parametrize("write", [write_mp4, write_gif])
def test_impossible_videos_leave_no_file(tmp_path, write):
    with pytest.raises(DataError, match="no frames to write"):
        write(tmp_path / "a.mp4", [], fps=10)
    with pytest.raises(DataError, match="one size"):
        write(tmp_path / "a.mp4", [*noise(1, 8, 8), *noise(1, 8, 10)], fps=10)
    assert not list(tmp_path.iterdir())


def test_a_video_that_fails_half_way_leaves_what_was_there(tmp_path):
    write_mp4(tmp_path / "a.mp4", noise(2, 8, 8), fps=10)
    before = (tmp_path / "a.mp4").read_bytes()

    def failing():
        yield from noise(30, 8, 8)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_mp4(tmp_path / "a.mp4", failing(), fps=10)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_unreadable_videos_are_named(tmp_path):
    (tmp_path / "text.mkv").write_text("not a video")
    for name in ("text.mkv", "missing.mkv"):
        with pytest.raises(DataError, match=f"{name}: expected a readable video"):
            next(read_frames(tmp_path / name))


def test_a_border_surrounds_the_frame():
    (frame,) = noise(1, 5, 7)
    bordered = frame_border(frame, (0, 200, 0), 2)
    assert bordered.shape == (9, 11, 3)
    np.testing.assert_array_equal(bordered[2:-2, 2:-2], frame)
    bordered[2:-2, 2:-2] = (0, 200, 0)
    assert (bordered == (0, 200, 0)).all()


def test_tiles_lie_in_their_rows_and_columns():
    a, b, c = noise(3, 6, 8)
    picture = tile([[a, b], [c]], gap=3, background=(9, 9, 9))
    assert picture.shape == (3 * 3 + 2 * 6, 3 * 3 + 2 * 8, 3)
    np.testing.assert_array_equal(picture[3:9, 3:11], a)
    np.testing.assert_array_equal(picture[3:9, 14:22], b)
    np.testing.assert_array_equal(picture[12:18, 3:11], c)
    assert (picture[12:18, 14:22] == 9).all()


def test_captions_stand_above_their_frames_and_are_never_cut():
    frame = np.zeros((10, 10, 3), np.uint8)
    picture = tile([[frame, frame]], [["a caption wider than its frame", ""]], gap=2)
    top = picture.shape[0] - 2 - 10  # where the frames begin
    second = picture.shape[1] - 2 - 10  # where the second column begins
    columns = np.flatnonzero((picture[:top] != 255).any(axis=(0, 2)))  # of the caption's ink
    assert columns.min() <= 4
    assert second - 6 <= columns.max() < second
    assert len(columns) > 80
    assert (picture[top:-2, 2:12] == 0).all()
    assert (picture[top:-2, second:-2] == 0).all()


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> None:
    """Write the matrix into the track header (`tkhd`) of an MP4; its first 40 bytes come before."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    fixed = [round(n * (1 << 16)) for n in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]
    content[start : start + 36] = struct.pack(">9i", *fixed)
    path.write_bytes(content)


@pytest.mark.parametrize("signs", list(product((1, -1), (1, -1))))
@pytest.mark.parametrize("swapped", [False, True])
def test_videos_are_turned_as_their_display_matrix_says(
    tmp_path: Path, swapped: bool, signs: tuple[int, int]
) -> None:
    matrix = (0, signs[0], signs[1], 0) if swapped else (signs[0], 0, 0, signs[1])
    path = tmp_path / "a.mp4"
    rng = np.random.default_rng(abs(sum(matrix)))
    write_mp4(path, rng.integers(0, 255, (2, 4, 6, 3), np.uint8), 10, scale=8)
    stored = list(read_frames(path))
    set_display_matrix(path, *matrix)
    a, b, c, d = matrix
    y, x = np.mgrid[: stored[0].shape[0], : stored[0].shape[1]]
    left, top = a * x + c * y, b * x + d * y  # where each stored pixel is shown
    for frame, shown in zip(stored, read_frames(path), strict=True):
        np.testing.assert_array_equal(shown[top - top.min(), left - left.min()], frame)
        assert shown.shape[:2] == ((48, 32) if swapped else (32, 48))


@pytest.mark.parametrize("matrix", [(0.7, 0.7, -0.7, 0.7), (0, 0, 0, 1)])
def test_a_video_that_is_turned_otherwise_is_refused(
    tmp_path: Path, matrix: tuple[float, float, float, float]
) -> None:
    path = tmp_path / "a.mp4"
    write_mp4(path, np.zeros((2, 32, 32, 3), np.uint8), 10)
    set_display_matrix(path, *matrix)
    with pytest.raises(DataError, match=r"a\.mp4: its display matrix turns the picture by other"):
        list(read_frames(path))
