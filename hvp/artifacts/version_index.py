"""Index of the versions of a name in the local store: what `find` asks, without their manifests.

    <root>/<name>/index.json    {"v0": ["checkpoint", "<settings digest>"], ...}

It is a cache: what it lacks is read from the manifests, and it may be deleted at any time.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from hvp.files import unfinished, write_json

Key = tuple[str, str | None]
"""Type and settings digest of a version."""


def read_index(home: Path) -> dict[str, Key]:
    """Keys of the versions of a name; none where there is no index, or a damaged one.

    Args:
        home: the name's directory in the store.
    """
    try:
        content = json.loads((home / "index.json").read_text(encoding="utf-8"))
        return {str(version): (type, digest) for version, (type, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def update_index(home: Path, keys: Mapping[str, Key]) -> None:
    """Add keys of versions (holding the store's lock); those of versions that are gone go."""
    there = {path.name for path in home.iterdir()}
    known = read_index(home)
    updated = {v: key for v, key in {**known, **keys}.items() if v in there}
    if updated != known:
        write_json(home / "index.json", updated)


def remove_leftovers(home: Path) -> None:
    """Remove unfinished index and alias files of killed processes (holding the store's lock)."""
    for leftover in unfinished(home, "*.tmp.json"):
        leftover.unlink()
