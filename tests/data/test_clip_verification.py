"""Damaged clip stores: each damage is one sentence, and `repair` brings the data back."""

import errno
import json
import multiprocessing
import os
import shutil
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp.clips import ClipId
from hvp.data import verification
from hvp.data.packed import PreparedDataset
from hvp.data.store import prepare
from hvp.errors import DataError
from hvp.files import settings_digest
from tests.helpers.small_reader import NumberedReader, recordings

SIZE = (4, 3)
CHANNELS = ("labels", "frames")
RECORDINGS = recordings(train=2, val=1, test=1, frames=5)
FORK = multiprocessing.get_context("fork")


class Distinct(NumberedReader):
    """Every recording has label maps of its own."""

    def read(self, recording, size, channels):
        for arrays in super().read(recording, size, channels):
            if "labels" in arrays:
                arrays["labels"] += 2 * self._recordings.index(recording)
            yield arrays


def prepared(data_dir, *, repair=False):
    return prepare(Distinct(RECORDINGS), data_dir, SIZE, CHANNELS, repair)


def content(data):
    """All that a model gets from a store."""
    arrays = [
        data.read(channel, ClipId(recording.name, 0, 1), 99).tobytes()
        for channel in CHANNELS
        for recording in data.recordings
    ]
    listed = [(r.name, r.split, r.n_frames) for r in data.recordings]
    return (
        data.name,
        data.size,
        data.digest,
        data.settings,
        data.label_space,
        listed,
        b"".join(arrays),
    )


def stamps(folder):
    files = chain(folder.rglob("*.npy"), folder.rglob("manifest.json"))
    return {
        file.relative_to(folder): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    return folder, content(prepared(folder))


def without_digest(data_dir):
    """Make the manifests those of an earlier version, which wrote no journals either."""
    for file in data_dir.rglob("manifest.json"):
        manifest = json.loads(file.read_text())
        del manifest["digest"]
        file.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    for file in data_dir.rglob("verified-*"):
        file.unlink()


# What can happen to a file


def values(tree, path=()):
    """Paths to every value of a JSON tree."""
    yield path
    items = (
        tree.items() if isinstance(tree, dict) else enumerate(tree if type(tree) is list else ())
    )
    for key, value in items:
        yield from values(value, (*path, key))


OTHERS = [
    None, True, -1, 0, 1, 2, 6, 5.0, 1e308, 2**70, "", "train", "val", "frames", "a", "../a.npy",
    "/etc/passwd", "0" * 64, [], {}, [1, 2], {"a": 1}, float("nan"),
]  # fmt: skip


def change_value(draw, file):
    manifest = json.loads(file.read_text())
    path = draw(st.sampled_from(list(values(manifest))[1:]), label="path")
    parent = manifest
    for key in path[:-1]:
        parent = parent[key]
    if draw(st.integers(0, 4), label="how") == 0:
        del parent[path[-1]]
    else:
        parent[path[-1]] = draw(st.sampled_from(OTHERS), label="value")
    file.write_text(json.dumps(manifest))


def flip_a_bit(draw, file):
    damaged = bytearray(file.read_bytes())
    place = draw(st.integers(0, len(damaged) - 1), label="byte")
    damaged[place] ^= 1 << draw(st.integers(0, 7), label="bit")
    file.write_bytes(damaged)


def cut(draw, file):
    whole = file.read_bytes()
    file.write_bytes(whole[: draw(st.integers(0, len(whole) - 1), label="length")])


def replace_by_another(draw, file):
    others = sorted(other for other in file.parent.parent.rglob(f"*{file.suffix}") if other != file)
    file.write_bytes(draw(st.sampled_from(others), label="other").read_bytes())


def make_fifo(draw, file):
    file.unlink()
    os.mkfifo(file)


def make_link(draw, file):
    aside = file.with_name("aside")
    file.rename(aside)
    file.symlink_to(aside if draw(st.booleans(), label="whole") else "nowhere")


def header_bomb(draw, file):
    descr, shape = draw(st.sampled_from([("|u1", (10**15,)), ("|O", (5, 4, 3)), ("|O", (10**9,))]))
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    whole = file.read_bytes()
    file.write_bytes(whole[:8] + len(text).to_bytes(2, "little") + text.encode() + whole[128:])


def deep_json(draw, file):
    file.write_text("[" * 100_000 + "]" * 100_000)


ANY = [flip_a_bit, cut, replace_by_another, make_fifo, make_link]
DAMAGES = [
    *(("manifest.json", damage) for damage in [change_value, change_value, deep_json, *ANY]),
    *(("*.npy", damage) for damage in [header_bomb, *ANY]),
]


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_damage_is_one_sentence_or_without_effect_and_repair_brings_the_data_back(
    tmp_path, original, capsys, data
):
    data_dir = tmp_path / "data"
    shutil.rmtree(data_dir, ignore_errors=True)
    shutil.copytree(original[0], data_dir)
    if of_earlier_version := data.draw(st.booleans(), label="earlier version"):
        without_digest(data_dir)
    if opened_before := data.draw(st.booleans(), label="opened before"):
        prepared(data_dir)
    pattern, damage = data.draw(st.sampled_from(DAMAGES))
    file = data.draw(st.sampled_from(sorted(data_dir.rglob(pattern))), label="file")
    before = stamps(data_dir)
    damage(data.draw, file)

    named = None
    try:
        assert content(prepared(data_dir)) == original[1]
    except DataError as error:
        named = str(error)
        assert "\n" not in named
        assert str(file.parent.parent) in named
        assert "python run.py stage=prepare" in named
    if named is None:
        assert (
            pattern == "manifest.json"
        )  # spaces, a missing digest, a value that nothing depends on
    capsys.readouterr()
    assert content(prepared(data_dir, repair=True)) == original[1]
    printed = capsys.readouterr().out.replace("\n", "")
    touched = {name for name, stamp in stamps(data_dir).items() if before.get(name) != stamp}
    own = file.relative_to(data_dir)
    if pattern == "manifest.json" and of_earlier_version:
        # A changed SHA-256 speaks against its array. Where no journal is either, nothing tells
        # what the arrays held.
        assert not opened_before or len(touched - {own}) <= 1
    else:
        assert touched <= {own}
    if named is not None:
        assert "it is made again" in printed
    assert content(prepared(data_dir)) == original[1]


@pytest.mark.parametrize("channel", CHANNELS)
def test_any_damaged_byte_of_an_array_stops_the_next_run(tmp_path, original, channel):
    """Of every array the first, the last and some other bytes."""
    data_dir = shutil.copytree(original[0], tmp_path / "data")
    random = np.random.default_rng(0)
    for file in sorted(data_dir.rglob(f"{channel}/*.npy")):
        whole = file.read_bytes()
        for place in (0, 127, 128, len(whole) - 1, *random.integers(len(whole), size=3)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << random.integers(8)
            file.write_bytes(damaged)
            with pytest.raises(DataError, match=rf"{file.name}: .*run\.py stage=prepare"):
                prepared(data_dir)
        file.write_bytes(whole)
    assert content(prepared(data_dir)) == original[1]


def test_a_bit_that_flips_without_a_new_modification_time_is_found_by_repair(
    tmp_path, original, capsys
):
    data_dir = shutil.copytree(original[0], tmp_path / "data")
    prepared(data_dir)
    file = next(data_dir.rglob("labels/train%2F1.npy"))
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x07")
    os.utime(file, ns=times)
    assert content(prepared(data_dir)) != original[1]
    before = stamps(data_dir)
    assert content(prepared(data_dir, repair=True)) == original[1]
    printed = capsys.readouterr().out.replace("\n", "")
    assert f"{file}: its content is not what was prepared; it is made again" in printed
    after = stamps(data_dir)
    assert {name for name in after if after[name] != before[name]} == {file.relative_to(data_dir)}


# Hashing


@pytest.fixture
def hashed(monkeypatch):
    """Files that were hashed, in this process."""
    files = []
    real = verification.file_digest
    monkeypatch.setattr(
        verification, "file_digest", lambda path: files.append(path.name) or real(path)
    )
    return files


def test_a_file_is_hashed_once_per_machine_and_modification(tmp_path, hashed, monkeypatch):
    data = prepared(tmp_path)
    prepared(tmp_path)
    assert hashed == []  # the hashes were taken while writing
    monkeypatch.setattr(verification.platform, "node", lambda: "another/machine")
    prepared(tmp_path)
    assert len(hashed) == 8
    PreparedDataset.open(data.folder, CHANNELS)
    assert len(hashed) == 8
    os.utime(data.folder / "labels" / "val%2F0.npy")
    prepared(tmp_path)
    prepared(tmp_path)
    assert hashed[8:] == ["val%2F0.npy"]
    prepared(tmp_path, repair=True)
    assert len(hashed[9:]) == 8


def test_hostile_journals_only_cost_hashing(tmp_path, hashed, original):
    data = prepared(tmp_path)
    (journal,) = (data.folder / "labels").glob("verified-*.txt")
    lines = journal.read_text()
    torn = lines[: len(lines) - 5]
    for text in (torn, "\0" * 1000, "[" * 10**6, lines.replace("npy", "npx"), "é\udcff"):
        journal.write_bytes(text.encode("utf-8", "surrogateescape"))
        hashed.clear()
        assert content(prepared(tmp_path)) == original[1]
        assert len(hashed) == (1 if text is torn else 4)
        hashed.clear()
        prepared(tmp_path)
        assert hashed == []
    journal.unlink()
    os.mkfifo(journal)
    assert content(prepared(tmp_path)) == original[1]


def test_data_that_cannot_be_written_is_verified_once_per_process(
    tmp_path, hashed, monkeypatch, original
):
    data_dir = shutil.copytree(original[0], tmp_path / "data")

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    real = os.open
    monkeypatch.setattr(
        verification.os,
        "open",
        lambda path, flags, *mode: (refuse if flags & os.O_WRONLY else real)(path, flags, *mode),
    )
    monkeypatch.setattr(verification, "file_lock", refuse)
    monkeypatch.setattr(verification.platform, "node", lambda: "reader")
    assert content(prepared(data_dir)) == original[1]
    assert len(hashed) == 8
    prepared(data_dir)
    assert len(hashed) == 8


def _open_and_count(folder, barrier, counts):
    count = 0
    real = verification.file_digest

    def counting(path):
        nonlocal count
        count += 1
        time.sleep(0.01)
        return real(path)

    verification.file_digest = counting
    barrier.wait()
    PreparedDataset.open(folder, CHANNELS)
    counts.put(count)


def test_processes_of_one_machine_hash_a_file_once(tmp_path):
    folder = prepared(tmp_path).folder
    for journal in folder.rglob("verified-*"):
        journal.unlink()
    barrier, counts = FORK.Barrier(3), FORK.SimpleQueue()
    processes = [
        FORK.Process(target=_open_and_count, args=(folder, barrier, counts)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sum(counts.get() for _ in processes) == 8


def test_progress_is_shown_where_hashing_takes_long(tmp_path, monkeypatch, capsys):
    folder = prepared(tmp_path).folder
    monkeypatch.setattr(verification.platform, "node", lambda: "another")
    for limit, channel, shown in ((10**9, "labels", False), (100, "frames", True)):
        monkeypatch.setattr(verification, "SILENT_BYTES", limit)
        capsys.readouterr()
        PreparedDataset.open(folder, [channel])
        assert ("verify" in capsys.readouterr().out) is shown


# Interrupted preparations, manifests


class Stops(Distinct):
    def read(self, recording, size, channels):
        if recording.name == "test/0":
            raise KeyboardInterrupt
        yield from super().read(recording, size, channels)


@pytest.mark.parametrize("repair", [False, True])
def test_what_was_damaged_while_a_preparation_was_interrupted_is_made_again(
    tmp_path, original, repair, capsys
):
    with pytest.raises(KeyboardInterrupt):
        prepare(Stops(RECORDINGS), tmp_path, SIZE, CHANNELS)
    file = next(tmp_path.rglob("frames/train%2F0.npy"))
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 4
    file.write_bytes(damaged)
    if repair:
        os.utime(file, ns=times)
    reader = Distinct(RECORDINGS)
    assert content(prepare(reader, tmp_path, SIZE, CHANNELS, repair)) == original[1]
    assert reader.opened == [("train/0", "frames"), ("test/0", "labels"), ("test/0", "frames")]
    assert f"{file}: its content is not" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"dataset": 1}'])
def test_a_damaged_manifest_is_made_again_without_packing_anew(tmp_path, original, text):
    data = prepared(tmp_path)
    path = data.folder / "labels" / "manifest.json"
    before = path.read_bytes()
    path.write_text(text)
    with pytest.raises(DataError, match=r"labels/manifest\.json: .*stage=prepare"):
        prepared(tmp_path)
    reader = Distinct(RECORDINGS)
    assert content(prepare(reader, tmp_path, SIZE, CHANNELS, repair=True)) == original[1]
    assert reader.opened == []
    assert path.read_bytes() == before


def test_manifests_of_earlier_versions_are_read_and_stay(tmp_path, original, hashed):
    data_dir = shutil.copytree(original[0], tmp_path / "data")
    without_digest(data_dir)
    before = stamps(data_dir)
    assert content(prepared(data_dir)) == original[1]
    assert len(hashed) == 8
    prepared(data_dir, repair=True)
    assert stamps(data_dir) == before


def test_a_manifest_with_a_good_digest_may_still_not_leave_its_folder(tmp_path):
    data = prepared(tmp_path)
    path = data.folder / "labels" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["digest"]
    manifest["recordings"][0]["file"] = "../frames/train%2F0.npy"
    manifest["digest"] = settings_digest(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json: damaged .*\.\./frames"):
        prepared(tmp_path)


def test_a_folder_in_place_of_a_file_is_named_and_not_deleted(tmp_path):
    data = prepared(tmp_path)
    for name in ("labels/train%2F0.npy", "frames/manifest.json"):
        path: Path = data.folder / name
        whole = path.read_bytes()
        path.unlink()
        path.mkdir()
        with pytest.raises(DataError, match=r"not a regular file.*stage=prepare"):
            prepared(tmp_path)
        with pytest.raises(DataError, match=r"a folder, expected a file; delete it"):
            prepared(tmp_path, repair=True)
        path.rmdir()
        path.write_bytes(whole)


def test_a_file_that_cannot_be_read_here_is_not_taken_for_damaged(tmp_path, monkeypatch):
    data = prepared(tmp_path)
    before = stamps(tmp_path)

    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(verification, "check_array", refuse)
    for repair in (False, True):
        with pytest.raises(DataError, match=r"npy: this user may not read or write it"):
            prepared(tmp_path, repair=repair)
    assert stamps(tmp_path) == before
    assert data.folder.is_dir()


def test_an_array_damaged_after_it_was_opened_is_a_sentence_when_read(tmp_path):
    data = prepared(tmp_path)
    file = data.folder / "labels" / "train%2F0.npy"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train%2F0\.npy: .* bytes, expected .*stage=prepare"):
        data.read("labels", ClipId("train/0", 0, 1), 2)
