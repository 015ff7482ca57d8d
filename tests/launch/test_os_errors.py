"""Faults of the machine end in one sentence with the knob to turn."""

import errno
import os
from pathlib import Path

import pytest

from hvp.errors import DataError, HVPError
from hvp.launch.os_errors import as_sentence

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
