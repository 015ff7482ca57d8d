"""One process at a time in an output directory; killed ones leave neither locks nor rubbish."""

import errno
import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
from omegaconf import DictConfig, OmegaConf

from hvp.files import atomic_folder, atomic_path
from hvp.launch.directory import at_work
from tests.helpers.commands import ROOT, run_hvp

AT_WORK = """
import os, sys
from omegaconf import OmegaConf
from hvp.launch.directory import at_work
from hvp.launch.door import one_sentence_errors

places = dict.fromkeys(("output_dir", "work_dir", "data_dir"), sys.argv[1])
launched = sys.argv[2:] == ["launched"]
with one_sentence_errors(), at_work(OmegaConf.create(places), launched):
    if sys.argv[2:] == ["fork"] and os.fork() == 0:  # as a loader worker, which outlives it
        sys.stdin.read()
        os._exit(0)
    print("at work", flush=True)
    sys.stdin.readline()
"""


def start(folder: Path, *arguments: str, out: int | IO[str] = subprocess.PIPE, **environment: str):
    return subprocess.Popen(
        [sys.executable, "-c", AT_WORK, str(folder), *arguments], cwd=ROOT, text=True,
        env=os.environ | environment, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE,
    )  # fmt: skip


def at_work_there(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


def config_of(folder: Path) -> DictConfig:
    places = dict.fromkeys(("work_dir", "data_dir"), str(folder.parent))
    return OmegaConf.create({"output_dir": str(folder), **places})


def test_a_second_process_says_who_is_at_work_and_works_once_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = at_work_there(start(folder, "fork"))
    try:
        second = start(folder)
        assert second.communicate(timeout=60)[0] == ""
        refused = run_hvp("stage=prepare", f"output_dir={folder}", work_dir=tmp_path)
        assert (second.returncode, refused.returncode) == (1, 1)
        since = json.loads((folder / "run.lock").read_text())["since"]
        assert refused.stderr == (
            f"error: {folder}: process {first.pid} on {socket.gethostname()} (since {since}) is at "
            "work in this output directory; wait for its end and run the same command again, or "
            "give another output_dir\n"
        )
        first.send_signal(signal.SIGKILL)
        first.wait()
        third = at_work_there(start(folder))  # though a process forked from the first still lives
        assert third.communicate("\n", timeout=60) == ("", "")
        assert third.returncode == 0
    finally:
        first.kill()
        assert first.stdin is not None
        first.stdin.close()  # ends the forked one


def test_on_a_terminal_the_second_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    first = at_work_there(start(tmp_path / "run"))
    terminal, other_end = pty.openpty()
    second = start(tmp_path / "run", out=other_end, COLUMNS="500")
    os.close(other_end)
    shown = b""
    while b"Ctrl-C" not in shown:
        shown += os.read(terminal, 4096)
    assert f"waiting for process {first.pid} on".encode() in shown
    assert b"at work\r\n" not in shown
    first.communicate("\n", timeout=60)
    while b"at work\r\n" not in shown:
        shown += os.read(terminal, 4096)
    assert second.communicate("\n", timeout=60)[1] == ""
    assert second.returncode == 0
    os.close(terminal)


def test_a_holder_on_another_host_that_just_died_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.lock").write_text(json.dumps({"pid": 7, "host": "node\x1b[2J", "since": "x"}))
    refusals = iter([OSError(errno.EAGAIN, "held")] * 2)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(fcntl, "lockf", lambda *_: (_ for _ in ()).throw(e) if (
        e := next(refusals, None)) else None)  # fmt: skip
    with at_work(config_of(tmp_path)):
        pass
    shown = capsys.readouterr().out
    assert r"waiting for process 7 on node\x1b[2J (since x)" in shown
    assert shown.count("waiting") == 1 + shown.count("stops waiting")


def test_a_file_system_without_locks_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with at_work(config_of(tmp_path)):
        worked = True
    assert worked
    assert "its file system has no locks (No locks available)" in capsys.readouterr().out


def test_only_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    kept = [tmp_path / "checkpoints" / "batch-3.ckpt", tmp_path / ".hidden.tmp",
            tmp_path / "inner" / "run.lock"]  # fmt: skip
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("kept")
    contexts = [
        atomic_path(kept[0]),
        atomic_path(tmp_path / "set" / "index.json"),
        atomic_folder(tmp_path / "tree"),
        atomic_path(tmp_path / "inner" / "of.other"),
    ]
    *dead, living = [context.__enter__() for context in contexts]
    for path in (dead[0], dead[1], dead[2] / "file", living):
        path.write_text("half")
    with at_work(config_of(tmp_path)):
        assert not any(path.exists() for path in dead)
        assert all(path.exists() for path in (*kept, living))


def test_what_other_runs_may_be_writing_is_left(tmp_path: Path) -> None:
    context = atomic_path(tmp_path / "work" / "artifacts" / "set" / "aliases.json")
    living = context.__enter__()
    living.write_text("half")
    config = config_of(tmp_path)
    config.work_dir = str(tmp_path / "work")
    with at_work(config):
        assert living.exists()


def test_ranks_of_one_job_are_one_holder(tmp_path: Path) -> None:
    first = at_work_there(start(tmp_path))
    ranks = [start(tmp_path, "launched", RANK="0"), start(tmp_path, RANK="1")]
    for process in (*map(at_work_there, ranks), first):
        assert process.communicate("\n", timeout=60) == ("", "")
        assert process.returncode == 0
    log = (tmp_path / "run.log").read_text()
    assert log.count("began ") == 1
    assert log.count("at work\n") == 2
