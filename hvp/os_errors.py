"""Faults of the machine (disk full, no permission, too many open files) as sentences of ours."""

import errno
import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hvp.errors import HVPError
from hvp.files import existing_part

_AGAIN = "everything completed is kept, and the same command goes on"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_TOO_MANY = (errno.EMFILE, errno.ENFILE)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
_BROKEN = (errno.EIO, errno.ESTALE, errno.EREMOTEIO)
# What libraries say that keep no errno: worker processes, torch's writer, NumPy, filelock.
_SAID = (
    ("No space left on device", errno.ENOSPC),
    ("Disk quota exceeded", errno.EDQUOT),
    ("Too many open files", errno.EMFILE),
    ("Read-only file system", errno.EROFS),
    ("requested and", errno.ENOSPC),
    ("PytorchStreamWriter failed writing", errno.ENOSPC),
    (". unexpected pos ", errno.ENOSPC),  # torch.save
    ("does not appear to support flock", errno.ENOLCK),
    ("Input/output error", errno.EIO),
)
_SAID_BY = (OSError, RuntimeError, NotImplementedError)


def fault_sentence(error: BaseException, places: Iterable[Path] = ()) -> str | None:
    """Sentence for a fault of the machine, with the config keys that help; None for other errors.

    Args:
        error: what was raised.
        places: directories that the command writes to.
    """
    number = _number(error)
    return None if number is None else _sentence(number, error, list(places))


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error says nothing of the file that was being read or written."""
    known = (*_FULL, *_DENIED, *_TOO_MANY, *_BROKEN)
    return isinstance(error, MemoryError) or _number(error) in known


@contextmanager
def disk_errors(kind: type[HVPError], where: Path) -> Iterator[None]:
    """Raise `kind` with a sentence in place of a fault of the machine; `where`: place at work."""
    try:
        yield
    except OSError as error:
        named = error
        if error.errno is not None and error.filename is None:
            named = OSError(error.errno, error.strerror, str(where))
        sentence = fault_sentence(named)
        if sentence is None:
            raise
        raise kind(sentence) from error


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if not isinstance(error, _SAID_BY):
        return None
    return next((number for said, number in _SAID if said in str(error)), None)


def _sentence(number: int, error: BaseException, places: list[Path]) -> str | None:
    name = getattr(error, "filename", None)
    what = os.strerror(number)
    if number in _FULL:
        place = existing_part(Path(os.fsdecode(name))) if name else _fullest(places)
        free = shutil.disk_usage(place).free / 2**30
        if "/torch_" in str(error) or "shared memory" in str(error):
            return (
                f"/dev/shm: the shared memory of the loader workers is full ({what}); give "
                "dataset.num_workers=0, or the machine more of it (docker: --shm-size=8g); "
                f"{_AGAIN}"
            )
        return (
            f"{name or place}: the disk is full ({what}, {free:.2f} GiB free); free some, or give "
            f"another with work_dir=/path/to/it (data_dir for clips, TMPDIR for temporary files); "
            f"{_AGAIN}"
        )
    if number in _DENIED and name:
        return (
            f"{os.fsdecode(name)}: this user may not read or write it ({what}); give it the "
            f"rights, or another place with work_dir, data_dir or data_root; {_AGAIN}"
        )
    if number in _TOO_MANY:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            f"too many open files ({what}; this process may open {limit}): raise the limit with "
            "`ulimit -n 65536`, or give fewer dataset.num_workers or dataset.rollout.samples; "
            f"{_AGAIN}"
        )
    if number in _NO_LOCKS:
        place = name or next(iter(places), Path.cwd())
        return (
            f"{place}: its file system has no file locks ({what}), by which several processes "
            "share a directory; mount it with locks, or give another place with work_dir=...; "
            f"{_AGAIN}"
        )
    if number in _BROKEN:
        return (
            f"{name or 'a file'}: the disk or the network file system failed ({what}); see the "
            f"system's log; {_AGAIN}"
        )
    return None


def _fullest(places: list[Path]) -> Path:
    known = [existing_part(place) for place in (*places, Path.cwd())]
    return min(known, key=lambda place: shutil.disk_usage(place).free)
