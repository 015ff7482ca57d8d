"""Faults of the machine (disk full, no permission, too many open files) as sentences of ours."""

import errno
import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from hydra.errors import InstantiationException

from hvp.errors import HVPError

_AGAIN = "everything completed is kept, and the same command goes on"
_FULL = (errno.ENOSPC, errno.EDQUOT)
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


def as_sentence(error: BaseException, places: Iterable[Path] = ()) -> HVPError | None:
    """The error that a user can act on, where `error` is one or stems from one; else None.

    Args:
        error: what was raised.
        places: directories that the command writes to.
    """
    if isinstance(error, HVPError):
        return error
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, HVPError):
        return error.__cause__  # Hydra wraps what a _target_ raises
    for link in _chain(error):
        number = _number(link)
        sentence = None if number is None else _sentence(number, link, list(places))
        if sentence is not None:
            return HVPError(sentence)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, without end even where that goes in a circle."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


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
        place = _existing(Path(os.fsdecode(name))) if name else _fullest(places)
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


def _existing(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _fullest(places: list[Path]) -> Path:
    known = [_existing(place) for place in (*places, Path.cwd())]
    return min(known, key=lambda place: shutil.disk_usage(place).free)
