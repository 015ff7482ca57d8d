"""Video files (MP4, GIF, lossless FFV1), image grids and borders.

A frame is RGB, (H, W, 3) uint8. Writes are atomic.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageDraw, ImageFont

from hvp.errors import DataError
from hvp.files import atomic_path, open_regular

Colour = tuple[int, int, int]
"""RGB, 0..255."""
AddFrame = Callable[[np.ndarray], None]
"""Function that appends one frame (H, W, 3) uint8 to a video."""

_MP4_ENCODERS = {"libx264": {"crf": "18", "preset": "medium"}, "libopenh264": {}, "mpeg4": {}}
"""H.264 encoders in order of preference, with their options; browsers do not play MPEG-4."""

_BT709 = 1
"""FFmpeg's number (AVColorSpace) of the colour matrix in the files; `Colorspace` has swscale's."""


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float, scale: int = 1) -> None:
    """Write an MP4 that browsers play (H.264, yuv420p), in constant memory.

    Args:
        path: File to write, `.mp4`.
        frames: Frames of one size; odd sizes are padded by repeating the last row or column.
        fps: Frames per second.
        scale: Whole factor of enlargement; pixels stay sharp squares.

    Raises:
        DataError: no frames, or frames of different sizes.
    """
    codec = next(name for name in _MP4_ENCODERS if name in av.codec.codecs_available)
    with _encoder(path, fps, codec, "yuv420p", _MP4_ENCODERS[codec]) as add:
        for frame in frames:
            add(_pad_to_even(_upscale(frame, scale)))


def write_gif(path: Path, frames: Iterable[np.ndarray], fps: float, scale: int = 1) -> None:
    """Write a looping GIF; times are rounded to 1/100 s and colours to 256 per frame.

    Arguments and errors are those of `write_mp4`, except that all frames are held in memory.
    """
    pictures = [Image.fromarray(_upscale(frame, scale)) for frame in frames]
    if not pictures:
        raise DataError(f"{path}: no frames to write; give at least one")
    if len({picture.size for picture in pictures}) > 1:
        raise DataError(f"{path}: frames of different sizes; give frames of one size")
    duration = max(10 * round(100 / fps), 20)  # viewers slow down what is faster than 20 ms
    with atomic_path(path) as temporary:
        pictures[0].save(
            temporary, save_all=True, append_images=pictures[1:], duration=duration, loop=0
        )


def frame_border(frame: np.ndarray, colour: Colour, width: int) -> np.ndarray:
    """Frame with a solid border: (H, W, 3) to (H + 2 width, W + 2 width, 3) uint8."""
    height, length, _ = frame.shape
    bordered = np.empty((height + 2 * width, length + 2 * width, 3), np.uint8)
    bordered[:] = colour
    bordered[width : width + height, width : width + length] = frame
    return bordered


def tile(
    rows: Sequence[Sequence[np.ndarray]],
    captions: Sequence[Sequence[str]] | None = None,
    gap: int = 4,
    background: Colour = (255, 255, 255),
    ink: Colour = (0, 0, 0),
) -> np.ndarray:
    """Image grid: rows of frames with captions, as one image.

    Columns are as wide as their widest frame or caption, rows as high as their highest frame;
    rows may differ in length.

    Args:
        rows: Frames, top row first, each row from the left.
        captions: A line of text above each frame, same layout as `rows`; "" for none.
        gap: Pixels between frames and around them.
        background: Colour between the frames.
        ink: Colour of the captions.

    Returns:
        The grid (H, W, 3) uint8.
    """
    captions = captions or [[""] * len(row) for row in rows]
    font = ImageFont.load_default()
    line = (
        int(font.getbbox("Ag")[3]) + 2 if any(text for texts in captions for text in texts) else 0
    )
    widths = [0] * max(len(row) for row in rows)
    for row, texts in zip(rows, captions, strict=True):
        for column, (frame, text) in enumerate(zip(row, texts, strict=True)):
            needed = max(frame.shape[1], int(np.ceil(font.getlength(text))))
            widths[column] = max(widths[column], needed)
    heights = [max(frame.shape[0] for frame in row) + line for row in rows]
    size = (sum(widths) + gap * (len(widths) + 1), sum(heights) + gap * (len(heights) + 1))
    picture = Image.new("RGB", size, background)
    draw = ImageDraw.Draw(picture)
    y = gap
    for row, texts, height in zip(rows, captions, heights, strict=True):
        x = gap
        for frame, text, width in zip(row, texts, widths, strict=False):
            draw.text((x, y), text, fill=ink, font=font)
            picture.paste(Image.fromarray(frame), (x, y + line))
            x += width + gap
        y += height + gap
    return np.asarray(picture)


@contextmanager
def lossless_writer(path: Path, fps: float) -> Iterator[AddFrame]:
    """Lossless video writer (FFV1 in Matroska): yields the function that appends a frame.

    The file appears when the `with` statement ends, or not at all if an error leaves it. The same
    frames always give the same bytes, and `read_frames` gives back exactly these frames.

    Args:
        path: File to write, `.mkv`.
        fps: Frames per second.

    Raises:
        DataError: no frames, or frames of different sizes.
    """
    # Intra frames with a checksum per slice: damage is noticed and stays within a frame.
    options = {"level": "3", "g": "1", "slicecrc": "1"}
    with _encoder(path, fps, "ffv1", "bgr0", options) as add:
        yield add


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """Frame iterator over a video file: RGB (H, W, 3) uint8, in decoding order, as a viewer
    shows them: turned and mirrored as the file's display matrix says.

    Raises:
        DataError: the file is missing or cannot be decoded, is turned by no quarter turn, or the
            decoder made up a frame that is damaged.
    """
    count = 0
    try:
        open_regular(path).close()  # FFmpeg would wait for a FIFO
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                for frame in packet.decode():
                    if packet.is_corrupt or frame.is_corrupt:
                        raise DataError(
                            f"{path}: frame {count} is damaged, what decodes is a guess; copy the "
                            "file again (or, if it was cut without re-encoding, cut it again)"
                        )
                    count += 1
                    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
                    array = frame.to_ndarray(format="rgb24")
                    yield array if matrix is None else _shown(array, bytes(matrix), path)
    except (OSError, IndexError, av.FFmpegError) as error:
        raise DataError(
            f"{path}: expected a readable video file, found {error!r}; make it again"
        ) from error


def _shown(frame: np.ndarray, matrix: bytes, path: Path) -> np.ndarray:
    """Turn a frame by FFmpeg's display matrix: pixel (x, y) is shown at (ax + cy, bx + dy)."""
    a, b, _, c, d = np.sign(np.frombuffer(matrix, np.int32)[:5]).tolist()
    if ((b or c) and (a or d)) or not (a * d or b * c):
        raise DataError(
            f"{path}: its display matrix turns the picture by other than quarter turns; re-encode "
            "the video upright (ffmpeg -i in.mp4 -c:v libx264 out.mp4)"
        )
    if b:
        frame, a, d = frame.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(frame[::d, ::a])


@contextmanager
def _encoder(
    path: Path, fps: float, codec: str, pixel_format: str, options: dict[str, str]
) -> Iterator[AddFrame]:
    """PyAV encoder of one video stream; the first frame sets its size."""
    # `bitexact` leaves out dates and random ids: equal videos have equal digests.
    muxing = {"fflags": "+bitexact"}
    if path.suffix == ".mp4":  # the index first: browsers start before they have the whole file
        muxing["movflags"] = "+faststart"
    with atomic_path(path) as temporary, av.open(str(temporary), "w", options=muxing) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream(codec, rate, options={**options, "flags": "+bitexact"})
        assert isinstance(stream, av.VideoStream)
        settings = stream.codec_context
        settings.pix_fmt = pixel_format
        conversion: dict[str, int] = {}
        if pixel_format.startswith("yuv"):  # say which of the RGB to YUV matrices was used
            conversion = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
            settings.colorspace, settings.color_range = _BT709, ColorRange.MPEG
        size: tuple[int, ...] | None = None

        def add(frame: np.ndarray) -> None:
            nonlocal size
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape != (size or frame.shape):
                raise DataError(
                    f"{path}: expected frames (H, W, 3) uint8 of one size"
                    f"{'' if size is None else f', {size} so far'}, found {frame.shape} "
                    f"{frame.dtype}"
                )
            if size is None:
                size = frame.shape
                settings.height, settings.width = size[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format=pixel_format, **conversion)))

        yield add
        if size is None:
            raise DataError(f"{path}: no frames to write; give at least one")
        container.mux(stream.encode(None))


def _upscale(frame: np.ndarray, scale: int) -> np.ndarray:
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def _pad_to_even(frame: np.ndarray) -> np.ndarray:
    """Edge padding to even height and width, which yuv420p needs."""
    height, width, _ = frame.shape
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
