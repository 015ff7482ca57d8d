"""Begun sets: what was damaged or never recorded is noticed when they go on, and made again."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp.artifacts.predictions import PredictionSet, PredictionSetWriter
from hvp.artifacts.videos import VideoSetWriter
from hvp.errors import ArtifactError
from tests.artifacts.sets_oracle import (
    frames,
    predicted_clips,
    prediction_header,
    samples,
    video_header,
    videos,
)

CLIPS = predicted_clips()
JOURNAL = "written-0.jsonl"


def open_set(directory: Path) -> PredictionSetWriter:
    return PredictionSetWriter(directory, prediction_header(), CLIPS)


def make(writer: PredictionSetWriter) -> list[int]:
    """Write what is not done and close; returns which clips that were."""
    todo = [n for n, clip in enumerate(CLIPS) if not writer.done(clip)]
    for n in todo:
        writer.write(CLIPS[n], samples(CLIPS[n]))
    writer.close()
    return todo


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


DAMAGE = st.lists(
    st.tuples(
        st.integers(0, len(CLIPS) - 1),
        st.sampled_from(["flip", "cut", "lose", "empty", "forget", "tear", "link"]),
        st.integers(0, 10**6),
    ),
    max_size=4,
    unique_by=lambda damage: damage[0],
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(written=st.integers(0, len(CLIPS)), closed=st.booleans(), damages=DAMAGE)
def test_only_what_was_damaged_is_made_again_and_nobody_sees_a_difference(
    tmp_path_factory: pytest.TempPathFactory, written: int, closed: bool, damages: list
) -> None:
    whole, begun = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("begun")
    make(open_set(whole))
    writer = open_set(begun)
    written = len(CLIPS) if closed else written
    for clip in CLIPS[:written]:
        writer.write(clip, samples(clip))
    if closed:
        writer.close()
    expected = set(range(written, len(CLIPS)))
    for n, how, where in damages:
        path = writer.path(CLIPS[n])
        if n >= written or (closed and how in ("forget", "tear")):
            continue
        expected.add(n)
        content = bytearray(path.read_bytes())
        if how == "flip":
            content[where % len(content)] ^= 1 << where % 8
            path.write_bytes(content)
        elif how == "cut":
            path.write_bytes(content[: where % len(content)])
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "lose":
            path.unlink()
        elif how == "link":
            path.rename(begun / "elsewhere")
            path.symlink_to(begun / "elsewhere")
        else:  # killed before or while the line was written
            journal = begun / JOURNAL
            lines = [line for line in journal.read_text().splitlines() if path.name not in line]
            torn = f'\n{{"file": "{CLIPS[n].file}", "sha2' if how == "tear" else ""
            journal.write_text("\n".join(lines) + torn)
    assert set(make(open_set(begun))) == expected
    (begun / "elsewhere").unlink(missing_ok=True)
    assert contents(begun) == contents(whole)


def test_damage_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = open_set(tmp_path)
    for clip in CLIPS[:3]:
        writer.write(clip, samples(clip))
    assert capsys.readouterr().err + capsys.readouterr().out == ""
    for clip in CLIPS[:2]:
        writer.path(clip).write_bytes(b"damaged")
    assert make(open_set(tmp_path)) == [0, 1, 3]
    said = capsys.readouterr()
    text = " ".join((said.out + said.err).split())
    assert text.count("has changed since it was written; it is made again") == 1
    assert len(list(PredictionSet(tmp_path))) == len(CLIPS)


def test_a_set_begun_without_a_journal_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = open_set(tmp_path)
    for clip in CLIPS[:3]:
        writer.write(clip, samples(clip))
    (tmp_path / JOURNAL).unlink()
    assert make(open_set(tmp_path)) == [0, 1, 2, 3]
    said = capsys.readouterr()
    assert "was never recorded as whole" in " ".join((said.out + said.err).split())


def test_each_rank_has_a_journal_and_rank_zero_reads_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = open_set(tmp_path)
    monkeypatch.setattr("hvp.artifacts.clip_journal.rank", lambda: 1)
    one = open_set(tmp_path)
    one.write(CLIPS[1], samples(CLIPS[1]))
    one.write(CLIPS[3], samples(CLIPS[3]))
    monkeypatch.undo()
    zero.write(CLIPS[0], samples(CLIPS[0]))
    zero.write(CLIPS[2], samples(CLIPS[2]))
    assert {JOURNAL, "written-1.jsonl"} <= {path.name for path in tmp_path.iterdir()}
    one.path(CLIPS[3]).write_bytes(b"damaged before rank zero looks")
    with pytest.raises(ArtifactError, match="1 of 4 files are not written"):
        zero.close()
    zero.write(CLIPS[3], samples(CLIPS[3]))
    zero.close()
    assert {path.name for path in tmp_path.iterdir()} == {"clips", "index.json"}


def test_a_damaged_video_of_a_begun_set_is_made_again(tmp_path: Path) -> None:
    writer = VideoSetWriter(tmp_path, video_header(), videos())
    for video in videos()[:2]:
        with writer.open(video) as add:
            for frame in frames(video):
                add(frame)
    content = bytearray(writer.path(videos()[1]).read_bytes())
    content[len(content) // 2] ^= 4
    writer.path(videos()[1]).write_bytes(content)
    resumed = VideoSetWriter(tmp_path, video_header(), videos())
    assert [resumed.done(video) for video in videos()] == [True] + [False] * 5


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(open_set(tmp_path))
    read = []
    from hvp.artifacts import clip_set

    digest = clip_set.file_digest
    monkeypatch.setattr(clip_set, "file_digest", lambda path: read.append(path) or digest(path))
    writer = open_set(tmp_path)
    for _ in range(3):
        assert all(map(writer.done, CLIPS))
    writer.close()
    assert sorted(read) == sorted(map(writer.path, CLIPS))


@pytest.mark.parametrize(
    "content", [b"[" * 70_000, b"\xff\0\n", b"{}\n[]\nnull\n1", b'{"file": 3}']
)
def test_a_journal_of_anything_counts_as_none(tmp_path: Path, content: bytes) -> None:
    writer = open_set(tmp_path)
    writer.write(CLIPS[0], samples(CLIPS[0]))
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(content)
    resumed = open_set(tmp_path)
    resumed.write(CLIPS[1], samples(CLIPS[1]))  # its line comes after what is no line
    resumed = open_set(tmp_path)
    assert [resumed.done(clip) for clip in CLIPS] == [True, True, False, False]


def test_a_plan_or_journal_that_is_no_file_is_named(tmp_path: Path) -> None:

    open_set(tmp_path)
    os.mkfifo(tmp_path / JOURNAL)
    with pytest.raises(ArtifactError, match=rf"{JOURNAL}: expected a regular file"):
        open_set(tmp_path)
    (tmp_path / JOURNAL).unlink()
    (tmp_path / "plan.json").write_text(json.dumps({"format": "predictions", "version": 1}))
    with pytest.raises(ArtifactError, match=r"plan\.json: not an index of predictions"):
        open_set(tmp_path)
    (tmp_path / "plan.json").unlink()
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(ArtifactError, match=r"plan\.json: expected readable JSON, found not a reg"):
        open_set(tmp_path)
