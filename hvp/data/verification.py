"""Verification of array files: sizes and headers always, SHA-256 once per machine and change.

    <channel>/verified-<host>.txt      <SHA-256> <bytes> <mtime in ns> <inode> <file>

The journal holds what was hashed on this machine, while it was written or later. A file of another
size, modification time or inode is hashed again.
"""

import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from hvp.clips import Channel
from hvp.data.array_files import check_array
from hvp.data.manifest import reason
from hvp.files import file_digest, file_lock, inner_file, open_regular
from hvp.labels import Size
from hvp.log import track
from hvp.os_errors import is_of_the_machine

MAX_JOURNAL_BYTES = 64 << 20
"""Part of a journal that is read; later lines are not known, and their files hashed again."""
SILENT_BYTES = 1 << 30
"""Bytes that are hashed without a progress bar."""

_LINE = re.compile(r"^([0-9a-f]{64}) (\d+ -?\d+ \d+) (\S+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Expected:
    """Array file as it should be."""

    file: str
    """File name."""
    n_frames: int
    """Number of frames."""
    hashes: frozenset[str]
    """SHA-256 of every content that is known to be whole."""


@dataclass(frozen=True)
class Finding:
    """Result of verifying one array file."""

    file: str
    """File name."""
    sha256: str = ""
    """SHA-256 of an intact file."""
    damage: str = ""
    """What is wrong with a damaged one: `missing`, for example."""


class Journal:
    """Journal of the array files of one channel that this machine has hashed.

    Where it cannot be written it is kept for this process only.
    """

    _unwritten: ClassVar[dict[Path, str]] = {}

    def __init__(self, folder: Path) -> None:
        host = quote(platform.node(), safe="")[:200] or "host"
        self.path = folder / f"verified-{host}.txt"

    def read(self) -> dict[str, tuple[str, str]]:
        """Stamp (size, mtime, inode) and SHA-256 by file name."""
        text = _read_text(self.path) + self._unwritten.get(self.path, "")
        return {file: (stamp, sha256) for sha256, stamp, file in _LINE.findall(text)}

    def add(self, file: str, found: os.stat_result, sha256: str) -> None:
        """Append a file that was hashed as it was `found`."""
        line = f"{sha256} {_stamp(found)} {file}\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW
        try:
            descriptor = os.open(self.path, flags | os.O_CLOEXEC, 0o666)
            try:
                # One write, so that lines of several processes do not mix. The first newline ends
                # a line that a crash cut off.
                os.write(descriptor, f"\n{line}".encode())
            finally:
                os.close(descriptor)
        except OSError:
            self._unwritten[self.path] = self._unwritten.get(self.path, "") + line


def known_hashes(folder: Path) -> dict[str, set[str]]:
    """SHA-256 that the journals of all machines hold, by file name."""
    known: dict[str, set[str]] = {}
    for path in folder.glob("verified-*.txt"):
        for sha256, _, file in _LINE.findall(_read_text(path)):
            known.setdefault(file, set()).add(sha256)
    return known


def verify(
    folder: Path,
    channel: Channel,
    size: Size,
    expected: Sequence[Expected],
    anew: bool = False,
) -> Iterator[Finding]:
    """Verify array files: first sizes and headers of all, then the SHA-256 of those not yet known.

    Processes of one machine take turns, so that files are hashed once.

    Args:
        folder: folder of the channel.
        channel: its name.
        size: height and width of the arrays.
        expected: the files.
        anew: hash every file, whatever the journal says.

    Yields:
        One finding per file.

    Raises:
        OSError: a file cannot be read here, which is no damage (see `hvp.os_errors`).
    """
    journal = Journal(folder)
    known = {} if anew else journal.read()
    rest, n_bytes = [], 0
    for one in expected:
        try:
            found = check_array(inner_file(folder, one.file), channel, one.n_frames, size)
        except (OSError, ValueError) as error:
            yield _damage(one, error)
            continue
        if not one.hashes:
            yield Finding(one.file, damage="nothing tells what it held")
        elif _is_known(one, found, known):
            yield Finding(one.file, known[one.file][1])
        else:
            rest.append(one)
            n_bytes += found.st_size
    if not rest:
        return
    with ExitStack() as stack:
        with suppress(OSError):  # without a lock each process hashes for itself
            stack.enter_context(file_lock(folder / f".{journal.path.stem}.lock"))
        noted = journal.read()
        waiting: Iterable[Expected] = rest
        if n_bytes > SILENT_BYTES:
            waiting = track(rest, f"verify {folder}", len(rest), "files")
        for one in waiting:
            yield _verify_content(folder, one, journal, noted, anew)


def _verify_content(
    folder: Path,
    one: Expected,
    journal: Journal,
    noted: Mapping[str, tuple[str, str]],
    anew: bool,
) -> Finding:
    try:
        path = inner_file(folder, one.file)
        found = path.stat()  # before hashing: a file that changes meanwhile is hashed again
        if not anew and _is_known(one, found, noted):
            return Finding(one.file, noted[one.file][1])
        sha256 = file_digest(path)
    except (OSError, ValueError) as error:
        return _damage(one, error)
    if sha256 not in one.hashes:
        return Finding(one.file, damage="its content is not what was prepared")
    if noted.get(one.file) != (_stamp(found), sha256):
        journal.add(one.file, found, sha256)
    return Finding(one.file, sha256)


def _damage(one: Expected, error: OSError | ValueError) -> Finding:
    if is_of_the_machine(error):
        raise error
    return Finding(one.file, damage=reason(error))


def _is_known(one: Expected, found: os.stat_result, known: Mapping[str, tuple[str, str]]) -> bool:
    stamp, sha256 = known.get(one.file, ("", ""))
    return stamp == _stamp(found) and sha256 in one.hashes


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _read_text(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read(MAX_JOURNAL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
