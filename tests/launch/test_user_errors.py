"""Faults of the machine end in one sentence with the knob to turn."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvp.errors import DataError, HVPError
from hvp.launch.user_errors import as_sentence
from tests.helpers.commands import ROOT, SMALL, run_hvp

FAULTS = [
    (OSError(errno.ENOSPC, "x", "{here}/file"), r"{here}/file: the disk is full .* work_dir="),
    (OSError(errno.EDQUOT, "x"), r"the disk is full \(Disk quota exceeded.* work_dir="),
    (OSError("512 requested and 100 written"), r"the disk is full .* work_dir="),
    (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0"), "disk is f"),
    (RuntimeError("unable to write to file </torch_1_2>: No space left on device (28)"),
     "/dev/shm: .* dataset.num_workers=0"),
    (OSError(errno.EROFS, "x", "{here}"), r"{here}: .*\(Read-only file system\).* work_dir"),
    (PermissionError(errno.EACCES, "x", b"{here}"), r"{here}: .*Permission denied.* data_root"),
    (OSError(errno.EMFILE, "x"), r"too many open files .*ulimit -n"),
    (OSError("Caught OSError in DataLoader worker process 0.\n[Errno 24] Too many open files"),
     r"too many open files .*ulimit -n .*dataset.num_workers"),
    (NotImplementedError("FileSystem does not appear to support flock"), "no file locks"),
    (OSError(errno.ENOLCK, "x"), "no file locks"),
    (OSError(errno.ESTALE, "x", "{here}"), "{here}: the disk or the network file system failed"),
]  # fmt: skip


def placed(error: Exception, here: Path) -> Exception:
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename).format(here=here)
        return type(error)(error.errno, error.strerror, name)
    return error


@pytest.mark.parametrize(("error", "sentence"), FAULTS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_fault_is_one_sentence_also_where_another_error_came_of_it(
    error: Exception, sentence: str, wrapped: bool, tmp_path: Path
) -> None:
    error = placed(error, tmp_path)
    if wrapped:
        outer = ValueError("while writing")
        outer.__cause__ = error
        error = outer
    found = as_sentence(error, [tmp_path])
    assert isinstance(found, HVPError)
    with pytest.raises(HVPError, match=sentence.format(here=tmp_path)):
        raise found
    assert str(found).endswith("everything completed is kept, and the same command goes on")
    assert "\n" not in str(found)


OURS = [
    KeyError("x"), FileNotFoundError(errno.ENOENT, "x", "y"), ValueError("requested and"),
    PermissionError(errno.EPERM, "kill"),
]  # fmt: skip


@pytest.mark.parametrize("error", OURS)
def test_mistakes_of_ours_keep_their_traceback(error: Exception) -> None:
    assert as_sentence(error) is None


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = DataError("as it is")
    error.__cause__ = OSError(errno.ENOSPC, "x")
    assert as_sentence(error) is error
    error.__cause__ = error  # a circle
    assert as_sentence(error) is error


TRAIN = (*SMALL, "stage=structure", "callbacks.progress=null", "callbacks.samples=null")


@pytest.mark.slow
def test_a_training_on_a_full_disk_goes_on_once_there_is_room(small_disk: Path) -> None:
    done = run_hvp(*TRAIN, work_dir=small_disk)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "the disk is full" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    (log,) = small_disk.glob("outputs/*/run.log")
    assert "name: structure" in log.read_text()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    done = run_hvp(*TRAIN, work_dir=small_disk)
    assert done.returncode == 0, done.stderr
    assert not [path for path in small_disk.glob("outputs/**/*") if ".tmp" in path.name]


@pytest.mark.slow
def test_many_samples_stay_below_a_low_limit_of_open_files(tmp_path: Path) -> None:
    command = [sys.executable, "run.py", *TRAIN, "dataset.rollout.samples=200"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -n 80; exec "$0" "$@"', *command, f"work_dir={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (version,) = tmp_path.glob("artifacts/structure-synthetic/v*")
    assert len(list(version.glob("files/clips/*.npz"))) == 2
