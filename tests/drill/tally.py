"""What came of each fault, counted by kind."""

import resource
import signal
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hvp.errors import HVPError

OUTCOMES = ("harmless", "detected", "silent", "raw", "lost")
"""Same result as without the fault; an error of ours; another result without an error; any other
exception, or no end within `SECONDS`; finished work is gone."""
BAD = ("silent", "raw", "lost")
SECONDS = 5
MEMORY = 2**30


@dataclass
class Tally:
    """Counted outcomes."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: list[str] = field(default_factory=list)
    """What was done and what came of it, for the bad outcomes."""

    def add(self, kind: str, outcome: str, what: str) -> None:
        """Count one outcome."""
        self.counts[kind][outcome] += 1
        if outcome in BAD:
            self.examples.append(f"{kind}: {outcome}: {what}")

    @property
    def bad(self) -> int:
        """Number of bad outcomes."""
        return sum(count[outcome] for count in self.counts.values() for outcome in BAD)

    def show(self) -> None:
        """Print the table and the bad outcomes."""
        table = Table("what", "tried", *OUTCOMES, title="drill")
        for kind, count in [*self.counts.items(), ("all", sum(self.counts.values(), Counter()))]:
            table.add_row(kind, str(count.total()), *(str(count[name]) for name in OUTCOMES))
        console = Console(width=110)
        console.print(table)
        for example in self.examples:
            console.print(example, markup=False, highlight=False)


class _LateError(BaseException):
    """No end in time; nothing that reads a file catches it."""


def judge(
    use: Callable[[], Hashable], expected: Hashable, older: Hashable = None
) -> tuple[str, str]:
    """Outcome of reading something damaged, and what was said.

    Args:
        use: reads it; returns what was read.
        expected: what is read without damage.
        older: an earlier state that may be read instead, as that is said.
    """
    try:
        with limited():
            found = use()
    except HVPError as error:
        return "detected", str(error)
    except (Exception, _LateError):
        return "raw", traceback.format_exc(limit=-3)
    if found == expected:
        return "harmless", ""
    return (
        ("detected", "the one before is used") if found == older else ("silent", repr(found)[:200])
    )


@contextmanager
def limited() -> Iterator[None]:
    """Raise `_LateError` after `SECONDS`, and MemoryError beyond `MEMORY` more than now."""

    def late(*_: Any) -> None:
        raise _LateError(f"no end within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
