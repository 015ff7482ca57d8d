"""Files of any origin and file systems of any kind: JSON, paths, locks, links, full disks."""

import errno
import fcntl
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp.errors import ArtifactError, DataError
from hvp.files import (
    check_inner_path,
    file_digest,
    file_lock,
    inner_file,
    link_or_copy,
    read_json,
    write_json,
)

FORK = multiprocessing.get_context("fork")
QUICK = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)  # fmt: skip


@QUICK
@given(value=values)
def test_json_that_was_written_is_read_back(value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json", DataError, "x") == value


@QUICK
@given(content=st.binary(max_size=60))
def test_any_bytes_are_json_or_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    try:
        json.dumps(read_json(path, ArtifactError, "make it again"), allow_nan=False)
        reason = None
    except ArtifactError as error:
        reason = str(error)
    if reason is not None:
        assert reason.startswith(f"{path}: expected readable JSON, found ")
        assert reason.endswith("; make it again")


HOSTILE = {
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 500 + b"1" + b"}" * 500,
    "deeper than admitted": b"[" * 80 + b"]" * 80,
    "NaN": b'{"a": NaN}',
    "infinity": b"[-Infinity]",
    "a float that overflows": b"[1e999]",
    "a huge number": b"[" + b"9" * 100_000 + b"]",
    "a key twice": b'{"a": 1, "a": 2}',
    "millions of values": b"[" + b"[]," * 5_000_000 + b"1]",
    "an endless text": b'"' + b"a" * (65 << 20) + b'"',
    "no UTF-8": b'"\xff"',
}


def _in_bounds(path: Path, queue: Any) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
    began = time.process_time()
    try:
        read_json(path, ArtifactError, "remedy")
        queue.put(("accepted", 0.0))
    except BaseException as error:
        queue.put((type(error).__name__, time.process_time() - began))


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_refused_in_bounded_time_and_memory(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    queue = FORK.SimpleQueue()
    process = FORK.Process(target=_in_bounds, args=(tmp_path / "a.json", queue))
    process.start()
    process.join(30)
    kind, seconds = queue.get()
    assert kind == "ArtifactError"
    assert seconds < 5


def test_numbers_that_are_not_finite_can_be_admitted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"psnr": Infinity}')
    assert read_json(tmp_path / "a.json", DataError, "x", finite=False) == {"psnr": float("inf")}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.timeout(10)
@pytest.mark.parametrize("make", [_fifo, _link_to_device, _folder])
def test_what_is_no_regular_file_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"a\.json: expected readable JSON, found not a regular"):
        read_json(tmp_path / "a.json", DataError, "x")
    with pytest.raises(OSError, match="not a regular file"):
        file_digest(tmp_path / "a.json")


parts = st.text(st.characters(categories=["L", "N"], include_characters="-_. "), min_size=1,
                max_size=20).filter(lambda part: part not in (".", ".."))  # fmt: skip


@QUICK
@given(names=st.lists(parts, min_size=1, max_size=4), data=st.data())
def test_paths_stay_below_their_folder(names: list[str], data: st.DataObject) -> None:
    good = "/".join(names)
    assert check_inner_path(good) == good
    at = data.draw(st.integers(0, len(names)))
    bad = data.draw(st.sampled_from(["..", ".", "", "a\\b", "a\0b", "a\nb", "n" * 256]))
    for wrong in ("/".join([*names[:at], bad, *names[at:]]), f"/{good}", f"C:/{good}", 7, None):
        with pytest.raises(ValueError, match="the path"):
            check_inner_path(wrong)


def test_no_symbolic_link_leads_to_a_file_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "deep" / "a").write_text("a")
    (tmp_path / "set" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "set" / "up").symlink_to(tmp_path)
    assert inner_file(tmp_path / "set", "deep/a").read_text() == "a"
    for relative in ("link", "up/secret"):
        with pytest.raises(ValueError, match="a symbolic link"):
            inner_file(tmp_path / "set", relative)


def _without(code: int) -> Callable[..., None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK])
def test_without_hard_links_a_file_is_copied(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    monkeypatch.setattr(os, "link", _without(code))
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"weights"


def _count(folder: Path, rounds: int) -> None:
    for _ in range(rounds):
        with file_lock(folder / ".lock"):
            path = folder / "count"
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(number + 1))


@pytest.mark.parametrize("code", [None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_lock_excludes_others_also_on_a_file_system_without_locks(
    code: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if code is not None:
        monkeypatch.setattr(fcntl, "flock", _without(code))
    (tmp_path / "count").write_text("0")
    processes = [FORK.Process(target=_count, args=(tmp_path, 5)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert (tmp_path / "count").read_text() == "15"
    _count(tmp_path, 2)
    said = capsys.readouterr().out
    assert said.count("has no locks") == (code is not None)
