"""CSV cells that no spreadsheet runs, and names that no terminal obeys."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from hvp.errors import DataError
from hvp.log import say, track
from hvp.tables import cell, csv_cell, write_csv
from hvp.text import visible

NUMBERS = st.one_of(st.floats(allow_nan=False), st.integers())
TEXTS = st.text(st.characters(exclude_categories=("Cs",)))
HOSTILE = "drive\x1b[2J\x1b]0;title\x07\r\n\x9b1A\u202e[red]gpj.=1+1"


@given(st.sampled_from("=+-@\t\r\n\uff1d"), TEXTS)
def test_text_that_begins_a_formula_is_escaped(first: str, rest: str) -> None:
    written = csv_cell(first + rest)
    try:
        float(first + rest)
    except ValueError:
        assert written == "'" + first + rest
    else:
        assert written == first + rest


@given(NUMBERS)
def test_numbers_stay_numbers_also_as_text(value: float) -> None:
    assert csv_cell(value) is value
    assert csv_cell(str(value)) == str(value)


def test_names_of_columns_are_escaped_too(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, ["=a", "b"], [{"=a": "@sum", "b": -0.5}, {"b": "x\udcff"}])
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["'=a", "b"], ["'@sum", "-0.5"], ["", "x\\udcff"]]


@given(st.text())
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert "\x1b" not in shown
    shown.encode()
    assert visible(shown) == shown


def test_no_message_error_progress_bar_or_table_passes_control_characters_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(HOSTILE)
    list(track([1], HOSTILE, 1))
    table = Table(title=cell(HOSTILE))
    table.add_column(cell(HOSTILE))
    table.add_row(cell(visible(HOSTILE)))
    Console(width=200).print(table)
    print(DataError(HOSTILE))
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e"} & set(shown)
    assert shown.count("[red]gpj") >= 4
