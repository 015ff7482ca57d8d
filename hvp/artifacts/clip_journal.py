"""Journal of a clip set: the digest of each file, recorded when it was written.

    <directory>/written-<rank>.jsonl    {"file": "clips/a.npz", "sha256": "..."}, one line per file

Each rank appends to its own journal, all are read together. A line that a kill cut off counts as
none.
"""

import json
import os
import re
from pathlib import Path

from hvp.errors import ArtifactError
from hvp.files import MAX_JSON_BYTES, check_sha256, open_regular
from hvp.log import rank
from hvp.os_errors import fault_sentence

_NAME = re.compile(r"written-[0-9]+\.jsonl")
_MAX_LINE = 1 << 16


class ClipJournal:
    """Journal of the clip set in a directory; see the module's docstring."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, file: str, sha256: str) -> None:
        """Append the digest of a file that has been written.

        Raises:
            ArtifactError: the journal cannot be written.
        """
        path = self.directory / f"written-{rank()}.jsonl"
        # It begins with a line break, as the line before may have been cut off.
        line = f"\n{json.dumps({'file': file, 'sha256': sha256})}\n".encode()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(path, flags, 0o666)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _trouble(path, error) from error

    def read(self) -> dict[str, set[str]]:
        """Digests that files were written with; a file made twice has each.

        Raises:
            ArtifactError: a journal is no regular file or cannot be read.
        """
        found: dict[str, set[str]] = {}
        for path in self._paths():
            try:
                with open_regular(path) as journal:
                    size = os.fstat(journal.fileno()).st_size
                    content = journal.read(min(size, MAX_JSON_BYTES))
            except OSError as error:
                raise _trouble(path, error) from error
            for line in content.splitlines():
                if entry := _parse(line):
                    found.setdefault(entry[0], set()).add(entry[1])
        return found

    def remove(self) -> None:
        """Remove the journals of all ranks."""
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if _NAME.fullmatch(path.name))


def _parse(line: bytes) -> tuple[str, str] | None:
    """File and digest of a line; None for a damaged one, whose file is made again."""
    try:
        entry = json.loads(line[:_MAX_LINE])
        file, sha256 = entry["file"], entry["sha256"]
        return (file, check_sha256(sha256)) if isinstance(file, str) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _trouble(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        fault_sentence(error)
        or f"{path}: expected a regular file, found {error.strerror}; delete it and run the same "
        "command again"
    )
