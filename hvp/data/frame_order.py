"""Frame order: the picture files of one sequence, in the natural order of their names."""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from hvp.errors import DataError
from hvp.text import natural_key


def in_frame_order(files: Iterable[Path]) -> list[Path]:
    """Natural sort of the frames of one sequence: `9.png` comes before `10.png`.

    Raises:
        DataError: the names leave the order open: two of them have the same numbers (`1.png` and
            `01.png`), differently named files are numbered alike (`left_1`, `right_1`), or numbers
            are not whole, positive and of ASCII digits (`0.25` beside `0.5`, `-3`).
    """
    files = list(files)
    _check_numbers(files)
    ordered = sorted(files, key=lambda file: (natural_key(file.name), file.name))
    by_stem = sorted(ordered, key=lambda file: natural_key(file.stem))
    for file, other in pairwise(by_stem):
        if natural_key(file.stem) == natural_key(other.stem):
            raise DataError(
                f"{file}: the same frame as {other.name} by its name; expected one file per "
                "frame: remove one of them or number them apart"
            )
    _check_numbering(ordered)
    return ordered


def _check_numbers(files: list[Path]) -> None:
    """Check that the numbers in names are those that their digits alone spell."""
    # `-0001` is a number behind a dash, `-1` may be negative.
    signed = {f: re.findall(r"(?:^|[^0-9A-Za-z])-([0-9]+)", f.stem) for f in files}
    negative = not any(number.startswith("0") for found in signed.values() for number in found)
    for file, found in signed.items():
        if (found and negative) or any(c.isdigit() and not c.isascii() for c in file.stem):
            raise DataError(
                f"{file}: a negative number, or digits of another script, leave the order of the "
                "frames open; expected numbers from 0 up: rename the files of this folder"
            )
    fractions = [re.findall(r"[0-9]\.([0-9]+)", file.stem) for file in files]
    for file, found in zip(files, fractions, strict=True):
        if list(map(len, found)) != list(map(len, fractions[0])) and (found or fractions[0]):
            raise DataError(
                f"{file}: decimal numbers of different lengths (beside {files[0].name}) leave the "
                "order of the frames open; expected equally many digits behind the point, or "
                "whole numbers: rename the files of this folder"
            )


def _check_numbering(ordered: list[Path]) -> None:
    """Numbering check: where names differ by more than numbers, the numbers go on ascending."""
    runs: dict[str, list[Path]] = {}  # files whose names differ in numbers only, by their letters
    for file in ordered:
        if re.search(r"[0-9]", file.stem):
            runs.setdefault(re.sub(r"[0-9]+", "#", file.stem), []).append(file)
    for run, following in pairwise(runs.values()):
        if _numbers(run[-1]) >= _numbers(following[0]):
            raise DataError(
                f"{following[0]}: its number does not follow that of {run[-1].name}, and the names "
                "differ otherwise too, so the order of the frames is open; expected one folder "
                "per camera or sequence, or one name with ascending numbers: move or rename them"
            )


def _numbers(file: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"[0-9]+", file.stem)))
