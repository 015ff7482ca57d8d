"""Index of the versions of a name in the local store: what `find` asks, without their manifests.

    <root>/<name>/index.json    {"versions": {"v0": ["checkpoint", "<settings digest>"], ...},
                                 "digest": "<of versions>"}

It is a cache: what it lacks is read from the manifests, and it may be deleted at any time. One that
was changed counts as none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hvp.errors import ArtifactError
from hvp.files import read_json, settings_digest, unfinished, write_json
from hvp.records import parse

Key = tuple[str, str | None]
"""Type and settings digest of a version."""


@dataclass(frozen=True)
class _Index:
    versions: dict[str, tuple[str, str | None]]
    digest: str


def read_index(home: Path) -> dict[str, Key]:
    """Keys of the versions of a name; none where there is no index, or a damaged one.

    Args:
        home: the name's directory in the store.
    """
    try:
        index = parse(_Index, read_json(home / "index.json", ArtifactError, "delete it"))
    except (ArtifactError, ValueError):
        return {}
    return index.versions if index.digest == settings_digest(index.versions) else {}


def update_index(home: Path, keys: Mapping[str, Key]) -> None:
    """Add keys of versions (holding the store's lock); those of versions that are gone go."""
    there = {path.name for path in home.iterdir()}
    known = read_index(home)
    updated = {v: key for v, key in {**known, **keys}.items() if v in there}
    if updated != known:
        content = {"versions": updated, "digest": settings_digest(updated)}
        write_json(home / "index.json", content)


def remove_leftovers(home: Path) -> None:
    """Remove unfinished index and alias files of killed processes (holding the store's lock)."""
    for leftover in unfinished(home, "*.tmp.json"):
        leftover.unlink()
