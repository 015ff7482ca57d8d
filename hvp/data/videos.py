"""Frame sources: image files, and frames of video files decoded in order.

A video is decoded once from its start, without seeking: frame numbers and time stamps need not
agree in files that were cut or recorded at a variable rate.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import av
from PIL import Image

from hvp.errors import DataError
from hvp.files import open_regular
from hvp.media import read_frames
from hvp.pictures import open_rgb


@dataclass(frozen=True)
class VideoFrame:
    """Frame of a video file."""

    path: Path
    """Video file."""
    index: int
    """Frame index, from 0."""
    n_frames: int
    """Number of frames of the whole file, by `count_frames`."""

    def __str__(self) -> str:
        return f"{self.path}, frame {self.index}"


FrameSource = Path | VideoFrame
"""Source of one RGB frame: an image file or a frame of a video."""


def source_file(frame: FrameSource) -> Path:
    """Image or video file that holds `frame`."""
    return frame.path if isinstance(frame, VideoFrame) else frame


def video_frames(path: Path) -> list[VideoFrame]:
    """All frames of a video, counted without decoding.

    Raises:
        DataError: the file is no readable video or holds no frame.
    """
    count = count_frames(path)
    return [VideoFrame(path, index, count) for index in range(count)]


def count_frames(path: Path) -> int:
    """Frame count of a video: from its header, else by counting packets; decodes nothing.

    Raises:
        DataError: the file is no readable video or holds no frame, or its packets end before the
            duration in its header (Matroska, WebM).
    """
    try:
        open_regular(path).close()  # FFmpeg would wait for a FIFO
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            count = stream.frames or _count_packets(path, container, stream)
    except (OSError, IndexError, av.FFmpegError) as error:
        raise DataError(
            f"{path}: not a readable video ({error}); it is truncated or has no video stream: "
            "copy it again"
        ) from error
    if not count:
        raise DataError(f"{path}: the video has no frames; copy it again or remove it")
    return count


def _count_packets(path: Path, container: av.container.InputContainer, stream: Any) -> int:
    packets = [packet for packet in container.demux(stream) if packet.size > 0]
    ends = [p.pts + (p.duration or 0) for p in packets if p.pts is not None]
    duration = _seconds(stream.metadata.get("DURATION", ""))
    if duration is not None and ends:
        end, one = float(max(ends) * stream.time_base), 1 / float(stream.average_rate or 1)
        if end < duration - 1.5 * one:
            raise DataError(
                f"{path}: its header says {duration:.3f} s but its frames end at {end:.3f} s; the "
                "file is truncated: copy it again"
            )
    return len(packets)


def _seconds(text: str) -> float | None:
    """Seconds of `01:02:03.5`; None of anything else."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return None if match is None else (int(match[1]) * 60 + int(match[2])) * 60 + float(match[3])


def open_frames(frames: Sequence[FrameSource]) -> Iterator[Image.Image]:
    """Frame decoder: RGB images in the order given (within a video: ascending).

    Raises:
        DataError: a file is missing or damaged, or a video has not as many frames as counted.
    """
    for path, group in groupby(frames, key=source_file):
        wanted = list(group)
        if isinstance(wanted[0], VideoFrame):
            indices = [frame.index for frame in wanted if isinstance(frame, VideoFrame)]
            yield from _of_video(path, indices, wanted[0].n_frames)
        else:
            yield from map(open_rgb, map(source_file, wanted))


def _of_video(path: Path, indices: Sequence[int], n_frames: int) -> Iterator[Image.Image]:
    decoded, wanted = 0, set(indices)
    for index, array in enumerate(read_frames(path)):
        decoded = index + 1
        if index in wanted:
            yield Image.fromarray(array)
        # Decoded to the very end only if the last frame was asked for: that verifies the count.
        if decoded > n_frames or (index == indices[-1] and decoded < n_frames):
            break
    if decoded <= indices[-1] or decoded > n_frames:
        found = "more" if decoded > n_frames else f"only {decoded}"
        raise DataError(
            f"{path}: its header says {n_frames} frames but {found} could be decoded; the file is "
            "truncated or was cut without re-encoding: copy it again, or re-encode it "
            "(ffmpeg -i in.mp4 -c:v libx264 out.mp4)"
        )
