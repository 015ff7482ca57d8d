"""Faults of the machine: one sentence with the config key that helps."""

import errno
import os
from pathlib import Path

import pytest

from hvp.errors import DataError
from hvp.os_errors import disk_errors, is_of_the_machine


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, "file: the disk is full .* work_dir=.*data_dir.* same command goes on"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "may not read or write it .*data_dir"),
        (errno.EACCES, "may not read or write it"),
        (errno.EMFILE, "too many open files .*ulimit -n"),
        (errno.EIO, "the disk or the network file system failed"),
    ],
)
def test_a_fault_is_one_sentence_with_the_key_that_helps(
    code: int, expected: str, tmp_path: Path
) -> None:
    error = OSError(code, os.strerror(code), str(tmp_path / "file"))
    with pytest.raises(DataError, match=expected), disk_errors(DataError, tmp_path):
        raise error
    assert is_of_the_machine(error)


def test_an_unnamed_fault_is_one_of_the_place_at_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)), disk_errors(DataError, tmp_path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "x"), ValueError("x")])
def test_other_errors_pass(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)), disk_errors(DataError, tmp_path):
        raise error
    assert not is_of_the_machine(error)
