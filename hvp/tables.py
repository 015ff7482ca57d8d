"""CSV files, and cells of tables on the terminal, of values that come from outside."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from hvp.files import atomic_path
from hvp.text import visible

# Spreadsheets take a cell that begins so for a formula (OWASP, CSV injection); the last four are
# the full-width forms of the first.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV file with a header, atomically; text that a spreadsheet would run is escaped.

    Args:
        path: the file.
        columns: names of the columns, in order.
        rows: values by column; a missing one is an empty cell.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(csv_cell, columns))
        writer.writerows([csv_cell(row.get(column)) for column in columns] for row in rows)


def csv_cell(value: Any) -> Any:
    """A CSV cell: text that a spreadsheet would take for a formula gets a `'` before it.

    Numbers stay numbers, also those in text.

    >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell(-0.5)
    ("'=1+1", '-0.5', -0.5)
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def cell(value: Any, style: str = "") -> Text:
    """A cell, title or heading of a rich table: shown as it is, brackets are no markup.

    Lines of our own stay lines; give `visible(name)` for what comes from outside and may hold some.
    """
    return Text("\n".join(map(visible, str(value).split("\n"))), style=style)
