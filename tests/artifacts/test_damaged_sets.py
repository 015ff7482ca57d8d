"""Damaged and hostile sets: equal samples or one error, in bounded time and memory."""

import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp.artifacts.label_files import LabelFile, open_samples
from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictedClip, PredictionSet, PredictionSetWriter
from hvp.artifacts.store import ArtifactType
from hvp.artifacts.videos import VideoSet
from hvp.clips import ClipId
from hvp.errors import ArtifactError, DataError
from hvp.files import file_digest
from tests.artifacts.sets_oracle import prediction_header, samples

SIZE = (3, 4)
CLIPS = [PredictedClip(ClipId(name, 2, 1), context=1, horizon=2, samples=2) for name in "ab"]
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
    | st.sampled_from(["../a", "/etc/passwd", "clips", 2**50, 10**400, 0, -1, 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)  # fmt: skip


def write_set(directory: Path) -> Path:
    writer = PredictionSetWriter(directory, prediction_header(size=SIZE), CLIPS)
    for clip in CLIPS:
        writer.write(clip, samples(clip, SIZE))
    writer.close()
    return directory


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    folder = tmp_path_factory.mktemp("sets")
    store = LocalStore(folder / "store")
    source = write_set(folder / "set")
    store.publish(source, name="set", type=ArtifactType.PREDICTIONS, metadata={"a": 1})
    return store


def check(read: Callable[[], PredictionSet], may_lack_clips: bool = False) -> bool:
    """Whether the samples are read and equal; an error of ours is the only alternative."""
    tracemalloc.start()
    try:
        found = read()
        maps = {clip: found.samples(clip) for clip in found.clips}
        streamed = {clip: np.stack(list(map(np.stack, map(list, found.streams(clip)))))
                    for clip in found.clips}  # fmt: skip
    except (ArtifactError, DataError):
        return False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20
    assert list(maps) == CLIPS or (may_lack_clips and set(maps) <= set(CLIPS))
    for clip in maps:
        np.testing.assert_array_equal(maps[clip], samples(clip, SIZE))
        np.testing.assert_array_equal(streamed[clip], samples(clip, SIZE))
    return True


@settings(QUICK, max_examples=150)
@given(data=st.data())
def test_a_changed_bit_of_a_published_set_is_harmless_or_named(
    published: LocalStore, data: st.DataObject
) -> None:
    version = published.root / "set" / "v0"
    files = sorted(path for path in version.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed if data.draw(st.booleans()) else content[:at])
    try:
        check(lambda: PredictionSet(published.fetch("set").path))
    finally:
        path.write_bytes(content)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Where the values of a JSON document are."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list) else ()  # fmt: skip
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


@settings(QUICK, max_examples=250)
@given(data=st.data())
def test_a_changed_value_of_an_index_is_harmless_or_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "values"
    if not folder.exists():
        write_set(folder)
        (folder / "good.json").write_bytes((folder / "index.json").read_bytes())
    index = json.loads((folder / "good.json").read_text())
    *parents, last = data.draw(st.sampled_from([p for p in places(index) if p]))
    holder = index
    for key in parents:
        holder = holder[key]
    how = data.draw(st.sampled_from(["replace", "remove", "repeat", "rename"]))
    value = data.draw(JSON) if how == "replace" else holder[last]
    if how == "remove":
        del holder[last]
    elif how == "replace":
        holder[last] = value
    elif isinstance(holder, list):
        holder.append(deepcopy(value))
    else:
        holder[data.draw(st.text(max_size=5))] = holder.pop(last)
    (folder / "index.json").write_text(json.dumps(index))
    # Without an artifact around it, an index of fewer clips is one of another set.
    check(lambda: PredictionSet(folder), may_lack_clips=True)


@settings(QUICK, max_examples=300)
@given(data=st.data())
def test_a_changed_bit_of_a_prediction_file_is_harmless_or_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "bits"
    path, good = folder / "a.npz", folder / "good.npz"
    maps = np.random.default_rng(0).integers(0, 3, (2, 3, *SIZE), dtype=np.uint8)
    if not good.exists():
        with open_samples(good, maps.shape) as add:
            for frame in maps.swapaxes(0, 1):
                add(frame)
    content = bytearray(good.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content if data.draw(st.booleans()) else content[:at])
    for read in (
        lambda: LabelFile(path, maps.shape).read(),
        lambda: np.stack([np.stack(list(LabelFile(path, maps.shape).sample(s))) for s in (0, 1)]),
    ):
        try:
            found = read()
        except ArtifactError:
            continue
        np.testing.assert_array_equal(found, maps)


def put(directory: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = directory / "index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    return directory


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index["clips"][0].update(file="../set/clips/a.npz"),
        lambda index: index["clips"][0].update(file="/etc/passwd"),
        lambda index: index["clips"].append(index["clips"][0]),
        lambda index: index["clips"][0].update(sha256=index["clips"][1]["sha256"],
                                               file=index["clips"][1]["file"]),
        lambda index: index["clips"][0].update(samples=2**50),
        lambda index: index["clips"][0].update(samples=0),
        lambda index: index["clips"][0].update(horizon=True),
        lambda index: index["clips"][0].update(first=-2),
        lambda index: index["header"].update(size=[2**30, 2**20]),
        lambda index: index["header"].update(size=[0, 4]),
        lambda index: index["header"]["label_space"].update(classes=["x"]),
        lambda index: index["header"].update(more=1),
        lambda index: index.update(more=1),
        lambda index: index["clips"].__setitem__(0, {}),
        lambda index: index["clips"].__setitem__(0, 7),
    ],
    ids=range(15),
)  # fmt: skip
def test_hostile_indexes_are_refused(tmp_path: Path, change: Callable) -> None:
    assert check(lambda: PredictionSet(write_set(tmp_path)))
    assert not check(lambda: PredictionSet(put(tmp_path, change)))


def test_links_and_other_than_files_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    found = PredictionSet(write_set(tmp_path / "set"))
    path = found.path(CLIPS[0])
    path.rename(tmp_path / "outside.npz")
    path.symlink_to(tmp_path / "outside.npz")
    with pytest.raises(ArtifactError, match="a symbolic link"):
        found.samples(CLIPS[0])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="not a regular file"):
        found.samples(CLIPS[0])
    (tmp_path / "set" / "index.json").unlink()
    os.mkfifo(tmp_path / "set" / "index.json")
    for kind in (PredictionSet, VideoSet):
        with pytest.raises(ArtifactError, match="not a regular file"):
            kind(tmp_path / "set")


def npz(path: Path, header: dict[str, Any] | bytes, body: bytes, **claims: int) -> Path:
    """An `.npz` file of a header and a body, and an archive that claims other sizes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("samples.npy", "w") as member:
            if isinstance(header, bytes):
                member.write(header)
            else:
                np.lib.format.write_array_header_1_0(member, header)
            member.write(body)
        for name, value in claims.items():
            setattr(archive.getinfo("samples.npy"), name, value)
    return path


def kind(shape: tuple[int, ...], descr: str = "|u1") -> dict[str, Any]:
    return {"descr": descr, "fortran_order": False, "shape": shape}


HUGE = (2, 2**20, 2**12, 2**12)


@pytest.mark.parametrize(
    ("shape", "header", "claims"),
    [
        (HUGE, kind(HUGE), {}),
        (HUGE, kind(HUGE), {"file_size": 2**45 + 128}),
        (HUGE, kind(HUGE), {"file_size": 2**45 + 128, "compress_size": 2**36}),
        ((2, 1, 1, 12), kind((2, 1, 1, 12), "|O"), {}),
        ((2, 1, 1, 3), kind((2, 1, 1, 3), "<i8"), {}),
        ((2, 1, 1, 12), kind((2, 1, 1, 12)), {"compress_type": zipfile.ZIP_BZIP2}),
        ((2, 1, 1, 12), b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65_535, {}),
        ((2, 1, 1, 12), b"\x93NUMPY\x01\x00\x08\x00{[]: 1}\n", {}),
        ((2, 1, 1, 12), b"\x93NUMPY\x09\x00\x08\x00{}      ", {}),
        ((0, 1, 1, 12), kind((0, 1, 1, 12)), {}),
    ],
    ids=range(10),
)
def test_what_a_prediction_file_claims_is_checked_before_it_is_allocated(
    tmp_path: Path, shape: tuple, header: Any, claims: dict[str, int]
) -> None:
    path = npz(tmp_path / "a.npz", header, b"\0" * 24, **claims)
    tracemalloc.start()
    for read in (lambda file: file.read(), lambda file: next(file.sample(0))):
        with pytest.raises(ArtifactError, match=r"a\.npz: expected an \.npz file"):
            read(LabelFile(path, shape))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_valid_digest_around_a_bomb_costs_nothing(tmp_path: Path) -> None:
    found = PredictionSet(write_set(tmp_path))
    path = found.path(CLIPS[0])
    npz(path, kind((2**21, 3, *SIZE)), b"\0" * 24)

    def claim(index: dict[str, Any]) -> None:
        index["clips"][0].update(samples=2**21, sha256=file_digest(path))

    assert not check(lambda: PredictionSet(put(tmp_path, claim)))
