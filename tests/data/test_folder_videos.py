"""Custom datasets (`dataset=folder`) with videos instead of frame folders."""

import av
import numpy as np
import pytest

from hvp.clips import ClipId
from hvp.data.readers.folder import FolderReader
from hvp.data.segformer.extraction import LabelExtractor
from hvp.data.store import prepare
from hvp.data.videos import VideoFrame, count_frames, open_frames, video_frames
from hvp.errors import DataError
from hvp.media import write_mp4
from tests.helpers.small_reader import write_labels
from tests.helpers.small_segformer import save_segformer

SIZE = (32, 32)


def write_video(path, count, first=0):
    """Grey frames: frame i is 8 * (first + i) bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, (np.full((*SIZE, 3), 8 * (first + i), np.uint8) for i in range(count)), 10)


def write_label_maps(folder, count):
    for i in range(count):
        write_labels(folder / "label" / f"{i:03d}.png", SIZE, i)


def brightness(data, recording):
    frames = data.read("frames", ClipId(recording, 0, 1), 99)
    return (frames[:, :, 8, 8].astype(float).mean(1) / 8).round().astype(int).tolist()


@pytest.fixture
def root(tmp_path):
    """Three sequences: a folder with video and label maps, a bare video, a folder with a video."""
    root = tmp_path / "raw"
    write_video(root / "a" / "rgb.mp4", 20)
    write_label_maps(root / "a", 20)
    write_video(root / "b.mp4", 6, first=10)
    write_label_maps(root / "b", 6)
    write_video(root / "c" / "rgb.mp4", 7, first=5)
    write_label_maps(root / "c", 7)
    (root / "._b.mp4").write_bytes(b"what macOS leaves behind")
    return root


def test_frames_of_videos_pair_with_label_maps_in_order(root, tmp_path):
    reader = FolderReader(root)
    found = {r.name: (r.split, r.n_frames) for r in reader.recordings()}
    assert found == {
        "a-000000": ("train", 16), "a-000016": ("val", 4), "b": ("train", 6), "c": ("test", 7),
    }  # fmt: skip
    data = prepare(reader, tmp_path / "data", (16, 16), ["labels", "frames"])
    assert brightness(data, "a-000000") == list(range(16))
    assert brightness(data, "a-000016") == [16, 17, 18, 19]
    assert brightness(data, "b") == list(range(10, 16))
    assert data.read("labels", ClipId("a-000016", 0, 1), 9)[:, 0, 0].tolist() == [16, 17, 18, 0]
    assert reader.where(reader.recordings()[1], "frames", 2).endswith("a/rgb.mp4, frame 18")


def test_videos_alone_get_their_label_maps_made(root, tmp_path):
    for name in ("a", "b", "c"):
        for file in (root / name / "label").iterdir():
            file.unlink()
    model = save_segformer(tmp_path / "segformer")
    reader = FolderReader(root, extract_labels=LabelExtractor(str(model), tmp_path / "data"))
    prepare(reader, tmp_path / "data", (16, 16), ["labels", "frames"])
    tree = reader.extracted_root
    made = sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*.png"))
    assert made == [
        f"{name}/label/{i:06d}.png" for name, n in (("a", 20), ("b", 6), ("c", 7)) for i in range(n)
    ]
    by_hand = FolderReader(root, labels_root=tree)
    assert [r.n_frames for r in by_hand.recordings()] == [16, 4, 6, 7]
    (tree / "a" / "label" / "000017.png").unlink()
    before = (tree / "a" / "label" / "000016.png").stat().st_mtime_ns
    reader.make_labels()
    assert (tree / "a" / "label" / "000017.png").is_file()
    assert (tree / "a" / "label" / "000016.png").stat().st_mtime_ns == before


def test_without_label_maps_and_without_a_model_it_is_an_error(root):
    for file in (root / "c" / "label").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"c/label: no \*\.png for the 7 RGB frames"):
        FolderReader(root).recordings()


def test_frames_are_counted_from_the_container_or_its_packets(tmp_path):
    path = tmp_path / "whole.mp4"
    write_video(path, 9)
    assert count_frames(path) == 9
    fragmented = tmp_path / "fragmented.mp4"  # its header knows no count
    options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(str(path)) as source, av.open(str(fragmented), "w", options=options) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    with av.open(str(fragmented)) as container:
        assert container.streams.video[0].frames == 0
    assert count_frames(fragmented) == 9


@pytest.mark.parametrize(("promised", "found"), [(5, "more"), (12, "only 9")])
def test_a_count_that_decoding_does_not_confirm_is_an_error(tmp_path, promised, found):
    path = tmp_path / "video.mp4"
    write_video(path, 9)
    frames = [VideoFrame(path, index, promised) for index in range(promised)]
    with pytest.raises(DataError, match=f"header says {promised} frames but {found} could be"):
        list(open_frames(frames))
    assert len(list(open_frames(frames[1:4]))) == 3  # its end was not asked for


def cut(path):
    """As an interrupted copy: the index at its beginning promises more than is there."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"c/rgb\.mp4: .*(only \d could be decoded|readable video file)"),
        (lambda p: p.write_bytes(b"no video"), r"c/rgb\.mp4: not a readable video"),
        (sound, r"c/rgb\.mp4: not a readable video"),
        (lambda p: write_video(p, 6), r"c/rgb\.mp4: 6 frames but 7 label maps"),
        (lambda p: write_video(p.parents[1] / "c.mp4", 7), r"c/rgb\.mp4: .*c\.mp4 is there too"),
        (lambda p: (p.parent / "rgb").mkdir(), r"c/rgb: .*rgb\.mp4 is there too"),
    ],
)
def test_bad_videos_are_named(root, tmp_path, damage, message):
    damage(root / "c" / "rgb.mp4")
    with pytest.raises(DataError, match=message):
        prepare(FolderReader(root), tmp_path / "data", (16, 16), ["labels", "frames"])


@pytest.mark.parametrize("suffix", [".MP4", ".mov", ".MOV", ".mkv"])
def test_videos_of_other_suffixes_are_read(root, tmp_path, suffix):
    expected = [(r.name, r.n_frames) for r in FolderReader(root).recordings()]
    for path in (root / "a" / "rgb.mp4", root / "b.mp4"):
        if suffix.lower() in (".mp4", ".mov"):
            path.rename(path.with_suffix(suffix))
        else:
            remux(path, path.with_suffix(suffix))
            path.unlink()
    reader = FolderReader(root)
    assert [(r.name, r.n_frames) for r in reader.recordings()] == expected
    assert not any(skip.unread for skip in reader.skipped())
    data = prepare(reader, tmp_path / "data", (16, 16), ["frames"])
    assert brightness(data, "b") == list(range(10, 16))
    (root / "b.mpg").write_bytes(b"of a kind that is not read")
    assert [skip.names for skip in reader.skipped() if skip.unread] == [("b.mpg",)]


def remux(path, to):
    """The same packets in another container."""
    with av.open(str(path)) as source, av.open(str(to), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)


def test_frames_that_a_decoder_makes_up_are_an_error(tmp_path):
    """Every byte pattern: what the decoder fills in is refused, and never fewer frames given."""
    path = tmp_path / "whole.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_mp4(path, (np.roll(noise, i, 1) for i in range(20)), 10)
    whole = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    concealed = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        position, size = packets[rng.integers(len(packets))]
        damaged = bytearray(whole)
        for i in range(position + size // 3, position + size // 3 + 8):
            damaged[i] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert len(list(open_frames(video_frames(path)))) == 20
        except DataError as error:
            concealed += "is damaged, what decodes is a guess" in str(error)
    assert concealed > 5


def test_a_matroska_video_that_was_cut_short_is_an_error(tmp_path):
    dice = np.random.default_rng(0)
    noise = (dice.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(20))
    write_mp4(tmp_path / "whole.mp4", noise, 10)
    remux(tmp_path / "whole.mp4", tmp_path / "whole.mkv")
    whole = (tmp_path / "whole.mkv").read_bytes()
    assert count_frames(tmp_path / "whole.mkv") == 20
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.mkv: its header says 2\.0.* s but its frames end"):
        count_frames(tmp_path / "cut.mkv")


def test_stage_one_decodes_no_video(root, tmp_path):
    cut(root / "c" / "rgb.mp4")
    prepare(FolderReader(root), tmp_path / "data", (16, 16), ["labels"])
