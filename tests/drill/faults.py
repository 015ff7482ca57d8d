"""Damage every kind of file the product reads, and see what its reader makes of it."""

import json
import shutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictedClip, PredictionSet, PredictionSetWriter
from hvp.artifacts.store import ArtifactType
from hvp.artifacts.videos import VideoSet, VideoSetWriter
from hvp.clips import ClipId
from hvp.data.packed import PreparedDataset
from hvp.data.readers.base import Recording
from hvp.data.readers.densepose import DensePoseReader
from hvp.data.readers.file_reader import FileReader
from hvp.data.readers.folder import FolderReader
from hvp.data.readers.joint_files import open_joint_files
from hvp.data.readers.kitti import KITTIReader
from hvp.data.store import prepare
from hvp.data.synthetic.write_pose import write_human36m
from hvp.evaluation.folder import FolderPredictions
from hvp.evaluation.results import load_results, save_results
from hvp.labels import CITYSCAPES, load_label_space
from hvp.media import write_mp4
from hvp.published import save_checkpoint
from hvp.sweeps.record import JobRecord
from hvp.training.checkpoints import checkpoint_dir, latest_intact
from hvp.training.weights import read_checkpoint
from tests.artifacts.sets_oracle import (
    frames,
    predicted_clips,
    prediction_header,
    samples,
    video_header,
    videos,
)
from tests.drill.damage import EVERY_BIT, STRUCTURE, Damage, flip, kept
from tests.drill.tally import Tally, judge
from tests.helpers.raw_trees import densepose_tree, folder_tree, kitti_tree
from tests.helpers.small_reader import NumberedReader, write_labels
from tests.helpers.small_report import make_report

SIZE = (8, 8)
Use = Callable[[], Hashable]


@dataclass
class Subject:
    """Files of one kind, and how the product reads them."""

    kind: str
    files: Sequence[Path]
    use: Use
    damages: Sequence[Damage]
    """`EVERY_BIT` of what carries a checksum, `STRUCTURE` of what others made without one."""
    older: Hashable = None
    """What may be read instead, as the product says then."""
    repair: Use | None = None
    """Makes again what is damaged."""


def damage_files(root: Path, seed: int, times: int, tally: Tally) -> None:
    """Damage one file at a time, read, compare, restore.

    Args:
        root: directory to make the files in.
        seed: of files and damages.
        times: damages of each kind of file.
        tally: counts what came of each.
    """
    for subject in subjects(root):
        rng = np.random.default_rng([seed, *subject.kind.encode()])
        expected = subject.use()
        for n in range(times):
            path = subject.files[int(rng.integers(len(subject.files)))]
            damage = subject.damages[n % len(subject.damages)]
            with kept(path):
                done = f"{path.name}: {damage(path, rng)}"
                outcome, said = judge(subject.use, expected, subject.older)
                if outcome == "detected" and subject.repair is not None:
                    if path.is_dir() and not path.is_symlink():
                        path.rmdir()  # as the sentence says
                    outcome, more = judge(subject.repair, expected)
                    said = f"{said}; made again: {more}"
                    # Again an error, or other data: it cannot be had back.
                    outcome = {"harmless": "detected", "raw": "raw"}.get(outcome, "lost")
            tally.add(subject.kind, outcome, f"{done}: {said}")


def subjects(root: Path) -> list[Subject]:
    """Every kind of file, made anew in `root`."""
    return [
        *_raw_data(root / "raw"),
        *_clip_store(root / "data"),
        *_artifacts(root / "artifacts"),
        *_own_sets(root / "sets"),
        *_checkpoints(root / "run"),
        *_records(root / "records"),
    ]


def _read_all(reader: FileReader) -> Hashable:
    channels = ("labels", "frames")
    return [
        [
            [frame[c].tobytes() for c in channels if c in frame]
            for frame in reader.read(recording, SIZE, recording.channels)
        ]
        for recording in reader.recordings()
    ]  # type: ignore[return-value]


def _raw_data(root: Path) -> list[Subject]:
    kitti, poses, own = (root / name for name in ("kitti", "densepose", "folder"))
    kitti_tree(kitti)
    densepose_tree(poses)
    folder_tree(own)
    shutil.rmtree(own / "c" / "rgb")  # a video instead
    write_mp4(
        own / "c" / "rgb.mp4", [np.full((16, 32, 3), 20 * n, np.uint8) for n in range(10)], 10
    )
    human = root / "human36m"
    write_human36m(human, "cdf", ("S1", "S9"), takes=1, n_frames=20, size=(64, 64))
    npz = root / "joints.npz"
    rng = np.random.default_rng(0)
    np.savez_compressed(npz, **{"S1__Walking__1": rng.uniform(0, 64, (9, 17, 2))})
    classes = root / "classes.json"
    classes.write_text(json.dumps({
        "classes": [{"name": "road", "color": [1, 2, 3]}, {"name": "sky", "color": [4, 5, 6]}],
        "flip_pairs": [[0, 1]],
    }))  # fmt: skip

    def read_kitti() -> Hashable:
        val, test = ["2011_09_26_drive_0005"], ["2011_09_26_drive_0070"]
        skip = [["2011_09_28_drive_0054", "2011_09_28_drive_0220"]]
        return _read_all(KITTIReader(kitti, val, test, skip, (12, 40)))

    def read_poses() -> Hashable:
        return _read_all(DensePoseReader(poses))

    def read_own() -> Hashable:
        return _read_all(FolderReader(own, val=["a"], test=["b"]))

    def read_human36m() -> Hashable:
        files = open_joint_files(human, None, ("54138969", "55011271"))
        return [(take, files.joints(take).tobytes()) for take in files.takes()]  # type: ignore[return-value]

    def read_npz() -> Hashable:
        files = open_joint_files(root, npz, ("54138969",))
        return [(take, files.joints(take).tobytes()) for take in files.takes()]  # type: ignore[return-value]

    png = (*STRUCTURE, flip, flip)
    return [
        Subject("raw PNG", sorted(kitti.rglob("*.png"))[:20], read_kitti, png),
        Subject("raw JPEG", sorted(poses.rglob("*.jpg"))[:6], read_poses, STRUCTURE),
        Subject("split.json", [poses / "split.json"], read_poses, STRUCTURE),
        Subject("raw video", [own / "c" / "rgb.mp4"], read_own, STRUCTURE),
        Subject("joints, CDF", sorted(human.rglob("*.cdf"))[:4], read_human36m, STRUCTURE),
        Subject("joints, npz", [npz], read_npz, EVERY_BIT),
        Subject("class file", [classes], lambda: load_label_space(classes), STRUCTURE),
    ]  # fmt: skip


def _clip_store(root: Path) -> list[Subject]:
    recordings = [Recording(f"{s}/0", s, 6, ("labels", "frames")) for s in ("train", "test")]
    reader = NumberedReader(recordings)
    prepare(reader, root, SIZE, ("labels", "frames"))
    (folder,) = root.glob("*/*x*")

    def read() -> Hashable:
        data = PreparedDataset.open(folder, ("labels", "frames"))
        return _clips(data, recordings)

    def repair() -> Hashable:
        data = prepare(reader, root, SIZE, ("labels", "frames"), repair=True)
        return _clips(data, recordings)

    arrays, manifests = sorted(folder.rglob("*.npy")), sorted(folder.rglob("manifest.json"))
    return [
        Subject("clip store, array", arrays, read, EVERY_BIT, repair=repair),
        Subject("clip store, manifest", manifests, read, EVERY_BIT, repair=repair),
    ]


def _clips(data: PreparedDataset, recordings: Sequence[Recording]) -> Hashable:
    read = [
        data.read(channel, ClipId(recording.name, 0, 1), recording.n_frames).tobytes()
        for recording in recordings
        for channel in recording.channels
    ]
    return (data.digest, data.label_space, tuple(data.recordings), tuple(read))


def _artifacts(root: Path) -> list[Subject]:
    store, source = LocalStore(root / "store"), root / "source"
    clips = predicted_clips()
    writer = PredictionSetWriter(source / "predictions", prediction_header(), clips)
    for clip in clips:
        writer.write(clip, samples(clip))
    writer.close()
    translated = VideoSetWriter(source / "videos", video_header(), videos())
    for video in videos():
        with translated.open(video) as add:
            for frame in frames(video):
                add(frame)
    translated.close()
    report, _ = make_report()
    (source / "evaluation").mkdir()
    save_results(source / "evaluation", report.evaluation)
    for name in ("predictions", "videos", "evaluation"):
        settings = {"settings_digest": f"digest of {name}"}
        store.publish(
            source / name, name=name, type=ArtifactType(name), metadata=settings, aliases=("best",)
        )

    def predictions() -> Hashable:
        read = PredictionSet(store.fetch("predictions:latest").path)
        return [(clip, maps.tobytes()) for clip, maps in read]  # type: ignore[return-value]

    def shown() -> Hashable:
        read = VideoSet(store.fetch("videos:best").path)
        return [(v, [f.tobytes() for f in read.frames(v)]) for v in read.clips]  # type: ignore[return-value]

    def results() -> Hashable:
        return repr(load_results(store.fetch("evaluation").path / "results.json"))

    def found() -> Hashable:
        artifact = store.find("videos", ArtifactType.VIDEOS, "digest of videos")
        return None if artifact is None else (artifact.version, artifact.path)

    home = store.root
    manifests = sorted(home.glob("predictions/v*/artifact.json"))
    return [
        Subject("prediction set", _files(home / "predictions"), predictions, EVERY_BIT),
        Subject("video set", _files(home / "videos"), shown, EVERY_BIT),
        Subject("evaluation", _files(home / "evaluation"), results, EVERY_BIT),
        Subject("artifact manifest", manifests, predictions, EVERY_BIT),
        Subject("aliases", [home / "videos" / "aliases.json"], shown, STRUCTURE),
        Subject("index of versions", [home / "videos" / "index.json"], found, EVERY_BIT),
    ]


def _files(home: Path) -> list[Path]:
    """Published files of an artifact."""
    return sorted(path for path in home.glob("v*/files/**/*") if path.is_file())


def _own_sets(root: Path) -> list[Subject]:
    """A set that is being made, and predictions of others in a folder."""
    clips = predicted_clips()[:2]

    def resume() -> Hashable:
        writer = PredictionSetWriter(root / "begun", prediction_header(), clips)
        for clip in clips:
            if not writer.done(clip):
                writer.write(clip, samples(clip))
        writer.close()
        read = PredictionSet(root / "begun")
        return [(clip, maps.tobytes()) for clip, maps in read]  # type: ignore[return-value]

    writer = PredictionSetWriter(root / "begun", prediction_header(), clips)
    writer.write(clips[0], samples(clips[0]))
    begun = sorted((root / "begun" / "clips").glob("[!.]*"))

    clip = PredictedClip(ClipId("drive", 0, 1), context=1, horizon=3, samples=1)
    sample = root / "folder" / clip.id / "0"
    for n in range(3):
        write_labels(sample / "label" / f"{n}.png", SIZE, n)

    def evaluated() -> Hashable:
        read = FolderPredictions(root / "folder", [clip], SIZE, CITYSCAPES)
        return [[m.tobytes() for m in stream] for stream in read.labels(clip)]  # type: ignore[return-value]

    pictures = sorted(sample.rglob("*.png"))
    return [
        Subject("set being made", begun, resume, EVERY_BIT),
        Subject("evaluated folder", pictures, evaluated, (*STRUCTURE, flip, flip)),
    ]


def _checkpoints(root: Path) -> list[Subject]:
    """Newest checkpoint of a run with an older one, and one that is given by its path."""
    for number in (1, 2):
        state = {"weight": torch.full((40, 3), float(number)), "n": torch.tensor(number)}
        path = checkpoint_dir(root) / f"batch-{number:09d}.ckpt"
        save_checkpoint(state, "svg_lp", 1, {"size": [64, 64]}, path)

    def newest() -> Hashable:
        path = latest_intact(root)
        assert path is not None
        state = read_checkpoint(path)["state_dict"]
        return (path.name, *(tensor.numpy().tobytes() for tensor in state.values()))

    last, given = checkpoint_dir(root) / "batch-000000002.ckpt", root / "given.ckpt"
    with kept(last):
        last.unlink()
        older = newest()
    given.write_bytes(last.read_bytes())

    def read() -> Hashable:
        content = read_checkpoint(given)
        tensors = tuple(t.numpy().tobytes() for t in content["state_dict"].values())
        return (repr(content["model"]), *tensors)

    return [
        Subject("checkpoint to resume", [last], newest, EVERY_BIT, older=older),
        Subject("checkpoint given", [given], read, EVERY_BIT),
    ]


def _records(root: Path) -> list[Subject]:
    record = JobRecord(1, ("seed=1",), "digest", str(root), "val/loss")
    root.mkdir(parents=True, exist_ok=True)
    path = root / "1.json"
    record.write(path)
    return [Subject("record of a sweep's job", [path], lambda: JobRecord.read(path), STRUCTURE)]
