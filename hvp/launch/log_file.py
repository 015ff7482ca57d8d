"""Log file that keeps what a terminal shows in the end: no colours, secrets, states in between."""

import os
import re
from pathlib import Path

_SECRET = re.compile(r"(API_?KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)", re.IGNORECASE)
# Cursor up, carriage return, end of a line, other control sequences (CSI, OSC), text.
_TOKENS = re.compile(
    r"(?P<up>\x1b\[\d*A)|(?P<end>\r*\n)|(?P<back>\r)|"
    r"(?P<code>\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?)|"
    r"(?P<text>[^\x1b\r\n]+)"
)
_HEIGHT = 200  # lines that a cursor may go up


class LogFile:
    """File that keeps what a terminal shows in the end: a line drawn again replaces itself.

    Several processes may append in turns.

    Args:
        path: the file; it is made, or appended to.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._end = -1  # size of the file after our last write
        self._lines: list[int] = []  # where our lines begin, the current one last
        self._at_start = False  # whether the cursor went back to the beginning of a line

    def write(self, text: str) -> None:
        """Append what was written to the terminal."""
        size = os.fstat(self._file.fileno()).st_size
        if size != self._end:  # of another process
            self._lines, self._at_start = [size], False
        for token in _TOKENS.finditer(_without_secrets(text)):
            if token.lastgroup == "up":
                lines = int(token[0][2:-1] or 1)
                del self._lines[max(1, len(self._lines) - lines) :]
                self._at_start = True
            elif token.lastgroup == "back":
                self._at_start = True
            elif token.lastgroup == "end":
                self._append("\n")
                self._lines = [*self._lines[-_HEIGHT:], self._size()]
                self._at_start = False
            elif token.lastgroup == "text":
                if self._at_start:
                    self._file.truncate(self._lines[-1])
                    self._at_start = False
                self._append(token[0])
        self._end = self._size()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "backslashreplace"))

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if len(value) >= 8 and value in text and _SECRET.search(name):
            text = text.replace(value, "***")
    return text
