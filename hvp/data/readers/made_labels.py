"""Check before pseudo-labels: no label map is made where one may be given that no rule takes."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from PIL import Image

from hvp.errors import DataError

_WORDS = re.compile(
    r"label|mask|annot|truth|class|colou?r_?map|gtfine|(?<![a-z])(seg|sem|pars)"
    r"|(?<![a-z])(gt|ids?|iuv)(?![a-z])",
    re.IGNORECASE,
)


def check_made_labels(
    folders: Iterable[PurePosixPath], unread: Mapping[Path, PurePosixPath], dataset: str
) -> None:
    """Check that what no rule takes are no label maps of sequences that get them made.

    A file is of a sequence if it lies in the sequence's folder, or in one of the same name. It may
    be a label map if its name or a folder's says so, or if it is a palette or grey 8-bit PNG (the
    header of the first picture of every folder is read).

    Args:
        folders: folder of each sequence whose label maps will be made, below a root.
        unread: files that no rule takes, with their paths below a root.
        dataset: dataset name, for the message.

    Raises:
        DataError: a file may be a label map.
    """
    homes = {folder.name: folder for folder in folders}
    of_sequence: dict[PurePosixPath, list[Path]] = {}
    looks: dict[Path, bool] = {}
    for file, below in unread.items():
        home = next((homes[part] for part in below.parts[:-1] if part in homes), None)
        if home is None:
            continue
        inside = below.is_relative_to(home)
        parts = below.relative_to(home).parts if inside else below.parts
        if file.parent not in looks:
            looks[file.parent] = _is_single_channel(file)
        if looks[file.parent] or any(_WORDS.search(p) for p in parts if p != home.name):
            of_sequence.setdefault(home, []).append(file)
    if of_sequence:
        home, files = next(iter(of_sequence.items()))
        raise DataError(
            f"{files[0]}: may be a label map of {home}, but no rule of dataset {dataset!r} takes "
            f"it, and label maps would be made instead ({len(files)} such files, "
            f"{len(of_sequence)} such sequences); rename them as docs/datasets.md says, move them "
            "out of the sequence, or exclude it (dataset.datamodule.exclude)"
        )


def _is_single_channel(file: Path) -> bool:
    """Whether a file is a PNG whose pixels can be ids, from its header."""
    try:
        with Image.open(file) as image:
            return image.format == "PNG" and image.mode in ("1", "L", "P")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False
