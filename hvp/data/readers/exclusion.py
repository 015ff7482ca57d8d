"""Exclusion of sequences by name or pattern (`dataset.datamodule.exclude`)."""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from hvp.data.readers.media_files import named
from hvp.errors import DataError

KEY = "dataset.datamodule.exclude"


def excludes(patterns: Iterable[str], name: str) -> bool:
    """Whether a pattern (as in the shell: `*`, `?`, `[ab]`) is that of `name`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_excluded(
    patterns: Sequence[str], names: Collection[str], roots: Iterable[Path] = ()
) -> None:
    """Check that every pattern excludes something: a name, or a folder or file below `roots`.

    Raises:
        DataError: one excludes nothing.
    """
    folders = tuple(dict.fromkeys(roots))
    for pattern in patterns:
        # What begins elsewhere is no path below a root.
        is_path = pattern and not Path(pattern).is_absolute()
        if not any(excludes([pattern], name) for name in names) and not (
            is_path and any(any(root.glob(pattern)) for root in folders)
        ):
            raise DataError(
                f"{KEY}: {pattern!r} excludes nothing, the names are {named(sorted(names))}; "
                "correct it or take it out"
            )
