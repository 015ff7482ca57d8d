"""Manifest in a W&B artifact: SHA-256 of its files and exact inputs, which W&B does not keep."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvp.artifacts.store import ArtifactType, FileEntry, list_files
from hvp.errors import ArtifactError
from hvp.files import file_digest, read_json, settings_digest, write_json

if TYPE_CHECKING:
    import wandb

MANIFEST = ".hvp/manifest.json"
"""Path of the manifest among the published files."""


def make_manifest(
    source: Path, name: str, type: ArtifactType, metadata: dict[str, Any], inputs: Sequence[str]
) -> dict[str, Any]:
    """Manifest of the files below `source`: everything that tells one version from another."""
    return {
        "name": name,
        "type": type.value,
        "settings_digest": metadata.get("settings_digest"),
        "inputs": list(inputs),
        "files": {
            path.relative_to(source).as_posix(): asdict(
                FileEntry(file_digest(path), path.stat().st_size)
            )
            for path in _files_of(source)
        },
    }


def manifest_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest, by which a version is found at the server."""
    return settings_digest(manifest)


def draft_artifact(
    source: Path, staged: Path, manifest: dict[str, Any], metadata: dict[str, Any]
) -> "wandb.Artifact":
    """W&B artifact of the files below `source`, not yet logged.

    The files are read from where they are, and must stay there until they have been uploaded.

    Args:
        source: the files.
        staged: directory to write the manifest to.
        manifest: from `make_manifest`.
        metadata: plain JSON; numbers that are not finite become null at W&B.
    """
    import wandb

    write_json(staged / MANIFEST, manifest)
    draft = wandb.Artifact(
        manifest["name"],
        type=manifest["type"],
        metadata={**_finite(metadata), "manifest_digest": manifest_digest(manifest)},
    )
    for path in _files_of(source):
        relative = path.relative_to(source).as_posix()
        draft.add_file(str(path), name=relative, skip_cache=True, policy="immutable")
    draft.add_file(str(staged / MANIFEST), name=MANIFEST, skip_cache=True, policy="immutable")
    return draft


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _files_of(source: Path) -> list[Path]:
    """The files to publish; a manifest that came with a fetched artifact is left out."""
    return [path for path in list_files(source) if path != source / MANIFEST]


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; empty, so that no digest matches it, where it is damaged or missing."""
    try:
        manifest = read_json(path, ArtifactError, "")
    except ArtifactError:
        return {}
    return manifest if isinstance(manifest, dict) else {}
