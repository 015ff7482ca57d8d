"""Prediction sets: what is written is read, damage is noticed, interrupted work goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.predictions import PredictedClip, PredictionSet, PredictionSetWriter
from hvp.clips import ClipId
from hvp.errors import ArtifactError, DataError
from hvp.files import file_digest
from tests.artifacts.sets_oracle import NAMES, predicted_clips, prediction_header, samples


def make(directory: Path, clips: list[PredictedClip] | None = None) -> PredictionSet:
    clips = clips or predicted_clips()
    writer = PredictionSetWriter(directory, prediction_header(), clips)
    for clip in reversed(clips):
        writer.write(clip, samples(clip))
    writer.close()
    return PredictionSet(directory)


def test_everything_written_is_read_back_in_the_given_order(tmp_path):
    predictions = make(tmp_path)
    assert predictions.header == prediction_header()
    assert predictions.clips == predicted_clips()
    assert len(predictions) == len(NAMES)
    read = list(predictions)
    assert [clip for clip, _ in read] == predicted_clips()
    for clip, maps in read:
        assert maps.dtype == np.uint8
        np.testing.assert_array_equal(maps, samples(clip))


def test_numpy_and_json_alone_read_a_set(tmp_path):
    make(tmp_path)
    reader = (
        "import sys, json, numpy\n"
        "record = json.load(open('index.json'))['clips'][1]\n"
        "maps = numpy.load(record['file'])['samples']\n"
        "print(record['id'], *maps.shape, int(maps.sum()), 'hvp' in sys.modules)"
    )
    printed = subprocess.check_output([sys.executable, "-c", reader], cwd=tmp_path, text=True)
    clip = predicted_clips()[1]
    assert printed.split() == [
        "2011_09_26_drive_5@5+2", "3", "7", "12", "15", str(int(samples(clip).sum())), "False",
    ]  # fmt: skip


def test_index_is_flat_and_sets_written_by_earlier_versions_are_read(tmp_path):
    predictions = make(tmp_path)
    path = tmp_path / "index.json"
    index = json.loads(path.read_text())
    assert index["clips"][1] == {
        "id": "2011_09_26_drive_5@5+2",
        "file": "clips/2011_09_26_drive_5-000005-df2e0069c9e6.npz",
        "recording": "2011_09_26_drive_5", "first": 5, "step": 2,
        "context": 2, "horizon": 5, "samples": 3,
        "sha256": file_digest(predictions.path(predictions.clips[1])),
    }  # fmt: skip
    assert predictions.clips[1].clip == ClipId("2011_09_26_drive_5", 5, 2)


def test_file_names_are_flat_and_tell_similar_recordings_apart():
    alike = ["a/b", "a b", "a_b", "A_b", "../a_b", "a\nb"]
    clips = [PredictedClip(ClipId(name, 0, 1), 2, 4, 3) for name in alike]
    files = [clip.file for clip in clips]
    assert len({file.lower() for file in files}) == len(alike)
    for file in files:
        assert Path(file).parent == Path("clips")
        assert file.isascii()
        assert " " not in file


def test_an_interrupted_set_goes_on_where_it_stopped(tmp_path):
    clips = predicted_clips()
    first = PredictionSetWriter(tmp_path, prediction_header(), clips)
    first.write(clips[2], samples(clips[2]))
    with pytest.raises(ArtifactError, match=r"no complete set of predictions here \(one was begun"):
        PredictionSet(tmp_path)
    with pytest.raises(ArtifactError, match="3 of 4 files are not written"):
        first.close()

    second = PredictionSetWriter(tmp_path, prediction_header(), clips)
    assert [second.done(clip) for clip in clips] == [False, False, True, False]
    written = second.path(clips[2]).stat().st_mtime_ns
    for clip in clips:
        if not second.done(clip):
            second.write(clip, samples(clip))
    (tmp_path / "clips" / ".killed.0123abcd.tmp.npz").touch()
    second.close()
    assert second.path(clips[2]).stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "index.json"]
    assert len(list((tmp_path / "clips").iterdir())) == len(clips)
    for clip, maps in PredictionSet(tmp_path):
        np.testing.assert_array_equal(maps, samples(clip))


def test_interrupted_and_uninterrupted_sets_are_the_same_files(tmp_path):
    make(tmp_path / "once")
    clips = predicted_clips()
    PredictionSetWriter(tmp_path / "twice", prediction_header(), clips).write(
        clips[0], samples(clips[0])
    )
    make(tmp_path / "twice")
    for path in (tmp_path / "once").rglob("*.*"):
        other = tmp_path / "twice" / path.relative_to(tmp_path / "once")
        assert path.read_bytes() == other.read_bytes()


def test_two_writers_may_share_the_clips_of_one_set(tmp_path):
    clips = predicted_clips()
    ranks = [PredictionSetWriter(tmp_path, prediction_header(), clips) for _ in range(2)]
    for number, clip in enumerate(clips):
        ranks[number % 2].write(clip, samples(clip))
    ranks[0].close()
    assert len(list(PredictionSet(tmp_path))) == len(clips)


def test_opening_a_complete_set_again_leaves_it_as_it_is(tmp_path):
    make(tmp_path)
    index = (tmp_path / "index.json").read_bytes()
    writer = PredictionSetWriter(tmp_path, prediction_header(), predicted_clips())
    assert all(map(writer.done, predicted_clips()))
    writer.path(predicted_clips()[0]).write_bytes(b"damaged in between")
    writer.close()
    assert (tmp_path / "index.json").read_bytes() == index


def test_a_lost_file_of_a_complete_set_can_be_made_again(tmp_path):
    predictions = make(tmp_path)
    predictions.path(predictions.clips[1]).unlink()
    writer = PredictionSetWriter(tmp_path, prediction_header(), predicted_clips())
    missing = [clip for clip in predicted_clips() if not writer.done(clip)]
    assert missing == [predicted_clips()[1]]
    writer.write(missing[0], samples(missing[0]))
    writer.close()
    assert len(list(PredictionSet(tmp_path))) == len(NAMES)


def test_a_directory_made_with_other_settings_is_never_continued(tmp_path):
    clips = predicted_clips()
    PredictionSetWriter(tmp_path, prediction_header(), clips)
    with pytest.raises(ArtifactError, match="made with seed 7, expected 8; choose another"):
        PredictionSetWriter(tmp_path, prediction_header(seed=8), clips)
    with pytest.raises(ArtifactError, match=r"other clips .*\(4 there, 3 asked for\)"):
        PredictionSetWriter(tmp_path, prediction_header(), clips[:3])
    make(tmp_path)
    with pytest.raises(
        ArtifactError, match=r"index\.json: this set is made with checkpoint_digest"
    ):
        PredictionSetWriter(tmp_path, prediction_header(checkpoint_digest="c9"), clips)


def test_a_damaged_or_missing_file_is_named(tmp_path):
    predictions = make(tmp_path)
    clip = predictions.clips[0]
    path = predictions.path(clip)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ArtifactError, match=f"{path.name}: damaged file of clip 2011_09_26/drive 5"
    ):
        predictions.samples(clip)
    path.unlink()
    with pytest.raises(ArtifactError, match="found no such file"):
        predictions.samples(clip)
    np.testing.assert_array_equal(
        predictions.samples(predictions.clips[1]), samples(predictions.clips[1])
    )


def test_what_is_not_a_prediction_set_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no such file, so there is no complete set"):
        PredictionSet(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(ArtifactError, match="expected readable JSON"):
        PredictionSet(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"format": "videos", "version": 1}))
    with pytest.raises(
        ArtifactError, match="expected format 'predictions' version 1, found 'videos'"
    ):
        PredictionSet(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"format": "predictions", "version": 1}))
    with pytest.raises(ArtifactError, match="not an index of predictions"):
        PredictionSet(tmp_path)


def test_only_what_the_set_promises_can_be_written(tmp_path):
    clip = predicted_clips()[0]
    writer = PredictionSetWriter(tmp_path, prediction_header(), [clip])
    good = samples(clip)
    with pytest.raises(
        ArtifactError, match=r"expected label maps uint8 \(3, 6, 12, 15\).*found uint8"
    ):
        writer.write(clip, good[:, :-1])
    with pytest.raises(ArtifactError, match="found int64"):
        writer.write(clip, good.astype(np.int64))
    bad = good.copy()
    bad[1, 0, 0, 0] += 1
    with pytest.raises(ArtifactError, match="2 context frames differ"):
        writer.write(clip, bad)
    bad = good.copy()
    bad[2, -1, 0, 0] = 19
    with pytest.raises(DataError, match=r"label ids \[19\]"):
        writer.write(clip, bad)
    assert not writer.done(clip)
    with pytest.raises(ArtifactError, match="listed twice"):
        PredictionSetWriter(tmp_path / "other", prediction_header(), [clip, clip])
