"""Video sets: bit-exact, streamed, resumable, verified."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import ArtifactType
from hvp.artifacts.videos import TranslatedVideo, VideoSet, VideoSetWriter
from hvp.errors import ArtifactError
from tests.artifacts.sets_oracle import SIZE, frames, video_header, videos


def make(directory: Path, size: tuple[int, int] = SIZE) -> VideoSet:
    writer = VideoSetWriter(directory, video_header(size=size), videos())
    for video in videos():
        write(writer, video, frames(video, size))
    writer.close()
    return VideoSet(directory)


def write(writer: VideoSetWriter, video: TranslatedVideo, pictures: Iterable[np.ndarray]) -> None:
    with writer.open(video) as add:
        for picture in pictures:
            add(picture)


@pytest.mark.parametrize("size", [SIZE, (64, 64), (63, 65), (1, 2)], ids=str)
def test_every_pixel_comes_back_bit_exact(tmp_path, size):
    translated = make(tmp_path, size)
    assert translated.header == video_header(size=size)
    assert translated.clips == videos()
    for video in translated.clips:
        np.testing.assert_array_equal(list(translated.frames(video)), frames(video, size))


def test_the_same_videos_make_the_same_artifact(tmp_path):
    store = LocalStore(tmp_path / "store")
    published = []
    for name in ("once", "again"):
        make(tmp_path / name)
        published.append(
            store.publish(
                tmp_path / name, name="image-synthetic", type=ArtifactType.VIDEOS, metadata={}
            )
        )
    assert [artifact.version for artifact in published] == ["v0", "v0"]
    fetched = VideoSet(store.fetch("image-synthetic", ArtifactType.VIDEOS).path)
    assert len(list(fetched.frames(fetched.clips[0]))) == 6


def test_the_samples_of_a_clip_are_written_side_by_side(tmp_path):
    together = videos()[:2]
    writer = VideoSetWriter(tmp_path, video_header(), together)
    with ExitStack() as stack:
        adds = [stack.enter_context(writer.open(video)) for video in together]
        for pictures in zip(*map(frames, together), strict=True):
            for add, frame in zip(adds, pictures, strict=True):
                add(frame)
    writer.close()
    translated = VideoSet(tmp_path)
    for video in together:
        np.testing.assert_array_equal(list(translated.frames(video)), frames(video))


def test_frames_are_read_one_at_a_time(tmp_path):
    translated = make(tmp_path)
    reading = translated.frames(translated.clips[0])
    np.testing.assert_array_equal(next(reading), frames(translated.clips[0])[0])
    reading.close()


def test_an_interrupted_video_is_not_done_and_an_interrupted_set_goes_on(tmp_path):
    def interrupted(pictures: np.ndarray) -> Iterator[np.ndarray]:
        yield pictures[0]
        raise KeyboardInterrupt

    writer = VideoSetWriter(tmp_path, video_header(), videos())
    write(writer, videos()[0], frames(videos()[0]))
    with pytest.raises(KeyboardInterrupt):
        write(writer, videos()[1], interrupted(frames(videos()[1])))
    resumed = VideoSetWriter(tmp_path, video_header(), videos())
    assert [resumed.done(video) for video in videos()] == [True] + [False] * 5
    assert len(list((tmp_path / "clips").iterdir())) == 1
    for video in videos():
        if not resumed.done(video):
            write(resumed, video, frames(video))
    resumed.close()
    assert len(VideoSet(tmp_path)) == 6


def test_a_video_has_the_promised_frames_or_does_not_appear(tmp_path):
    writer = VideoSetWriter(tmp_path, video_header(), videos())
    video = videos()[0]
    with pytest.raises(ArtifactError, match=r"expected 6 frames .* found 5"):
        write(writer, video, frames(video)[:5])
    with pytest.raises(ArtifactError, match=r"expected frames \(12, 15, 3\), found \(15, 12, 3\)"):
        write(writer, video, frames(video, (15, 12)))
    assert not list((tmp_path / "clips").iterdir())


def test_a_damaged_video_is_named_before_any_frame_is_read(tmp_path):
    translated = make(tmp_path)
    path = translated.path(translated.clips[3])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=f"{path.name}: damaged file"):
        next(translated.frames(translated.clips[3]))


def test_videos_are_found_by_their_clip_and_kind(tmp_path):
    translated = make(tmp_path)
    clip = videos()[3].clip
    assert translated.of(clip, "sample") == videos()[3:5]
    assert translated.of(clip, "oracle") == videos()[5:]
    assert translated.of(clip._replace(step=1), "sample") == []
