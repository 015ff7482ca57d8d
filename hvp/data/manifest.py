"""Manifest of a channel of the clip store: recordings, settings and SHA-256 of every array file.

`manifest.json` also holds a digest of itself, which is no part of a `Manifest`; those of earlier
versions have none.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hvp.clips import Channel
from hvp.data.array_files import array_name
from hvp.data.readers.base import Recording
from hvp.errors import DataError
from hvp.files import (
    check_sha256,
    inner_file,
    open_regular,
    read_json,
    settings_digest,
    write_json,
)
from hvp.labels import LabelSpace, Size
from hvp.os_errors import is_of_the_machine
from hvp.records import parse

STORE_VERSION = 1
"""Part of every digest: raise it when the packed layout or the meaning of a channel changes."""

MANIFEST = "manifest.json"
"""File of a channel's manifest, beside its arrays."""

PREPARE_AGAIN = "run `python run.py stage=prepare` with the same settings, which makes it again"
"""Remedy of a damaged clip store, for messages."""


@dataclass(frozen=True, kw_only=True)
class StoredRecording(Recording):
    """Recording with its array file."""

    file: str
    """File name."""
    bytes: int
    """Size of the file."""
    sha256: str
    """SHA-256 of the file."""


@dataclass(frozen=True)
class Manifest:
    """Manifest of one channel."""

    dataset: str
    """Dataset name."""
    channel: Channel
    """Channel of the arrays."""
    size: Size
    """Height and width of the arrays."""
    settings: dict[str, Any]
    """`Reader.settings`, as JSON."""
    label_space: LabelSpace
    """Classes of the label maps."""
    recordings: tuple[StoredRecording, ...]
    """Recordings, in the reader's order."""

    def check_recordings(self, recordings: Sequence[Recording], space: LabelSpace) -> None:
        """Check that a reader or another channel has the same recordings and classes.

        Raises:
            ValueError: it has others.
        """
        stored, expected = (
            [(r.name, r.split, r.n_frames) for r in records]
            for records in (self.recordings, recordings)
        )
        if stored != expected:
            differ = (pair for pair in zip(stored, expected, strict=False) if pair[0] != pair[1])
            found, wanted = next(differ, (f"{len(stored)} recordings", f"{len(expected)}"))
            raise ValueError(f"{found!s:.200}, expected {wanted!s:.200}")
        if self.label_space != space:
            raise ValueError(f"other classes than those of {space.name!r:.80}")


def prepared_digest(settings: dict[str, Any], size: Size | None = None) -> str:
    """SHA-256 in hex of a reader's settings, and of the image size where one is given."""
    return settings_digest({"store": STORE_VERSION, "settings": settings, "size": size})


def store_folder(data_dir: Path, dataset: str, settings: dict[str, Any], size: Size) -> Path:
    """Folder of a dataset prepared with `settings` at `size`."""
    return data_dir / f"{dataset}-{prepared_digest(settings)[:12]}" / f"{size[0]}x{size[1]}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a channel's manifest to a dataset's `folder`, atomically, with its own digest."""
    content = json.loads(json.dumps(asdict(manifest)))
    content["digest"] = settings_digest(content)
    write_json(folder / manifest.channel / MANIFEST, content)


def read_manifest(folder: Path, channel: Channel, remedy: str = PREPARE_AGAIN) -> Manifest:
    """Read a channel's manifest from a dataset's `folder`.

    Raises:
        DataError: it is damaged, or that of other settings; the message ends with `remedy`.
        OSError: it cannot be read here (see `hvp.os_errors`).
    """
    path = folder / channel / MANIFEST
    try:
        open_regular(inner_file(path.parent, MANIFEST)).close()
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        raise DataError(f"{path}: {reason(error)}, expected a manifest; {remedy}") from error
    content = read_json(path, DataError, remedy, finite=False)
    try:
        if isinstance(content, dict) and "digest" in content:
            digest = content.pop("digest")
            if digest != settings_digest(content):
                raise ValueError("another content than its own digest says")
        manifest = parse(Manifest, content)
        _check(manifest, folder, channel)
    except (ValueError, DataError) as error:
        raise DataError(f"{path}: damaged ({error}); {remedy}") from error
    return manifest


def claimed_hashes(folder: Path, channel: Channel) -> Iterator[tuple[str, str]]:
    """File names and SHA-256 in what can be read of a damaged manifest."""
    try:
        content = read_json(folder / channel / MANIFEST, DataError, "")
        entries = content["recordings"]
        yield from ((entry["file"], check_sha256(entry["sha256"])) for entry in entries)
    except (DataError, ValueError, TypeError, LookupError):
        return


def _check(manifest: Manifest, folder: Path, channel: Channel) -> None:
    if manifest.channel != channel:
        raise ValueError(f"channel {manifest.channel!r}, expected {channel!r}")
    own = store_folder(Path(), manifest.dataset, manifest.settings, manifest.size)
    if own.parts != folder.parts[-2:]:
        raise ValueError(f"dataset, settings and size of {str(own)!r:.80}")
    if not manifest.recordings:
        raise ValueError("no recordings")
    if len({recording.name for recording in manifest.recordings}) < len(manifest.recordings):
        raise ValueError("two recordings of one name")
    for recording in manifest.recordings:
        check_sha256(recording.sha256)
        if recording.n_frames < 0 or recording.file != array_name(recording.name):
            raise ValueError(
                f"file {recording.file!r:.80} of {recording.n_frames} frames for the recording "
                f"{recording.name!r:.80}"
            )


def reason(error: Exception) -> str:
    """What is wrong with a file, for messages."""
    if isinstance(error, FileNotFoundError):
        return "missing"
    return str(getattr(error, "strerror", None) or error)
