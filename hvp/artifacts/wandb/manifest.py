"""What hvp adds to a W&B artifact: a manifest with the SHA-256 of its files and the inputs."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvp.artifacts.store import ArtifactType, FileEntry, list_files
from hvp.files import file_digest, settings_digest, write_json

if TYPE_CHECKING:
    import wandb

MANIFEST = ".hvp/manifest.json"
"""Where it lies among the published files."""


def describe(
    source: Path, name: str, type: ArtifactType, metadata: dict[str, Any], inputs: Sequence[str]
) -> dict[str, Any]:
    """The manifest of what is published: everything that makes one version differ from another."""
    return {
        "name": name,
        "type": type.value,
        "settings_digest": metadata.get("settings_digest"),
        "inputs": list(inputs),
        "files": {
            path.relative_to(source).as_posix(): asdict(
                FileEntry(file_digest(path), path.stat().st_size)
            )
            for path in _published(source)
        },
    }


def digest_of(manifest: dict[str, Any]) -> str:
    """The digest by which a manifest is recognised."""
    return settings_digest(manifest)


def draft_artifact(
    source: Path, staged: Path, manifest: dict[str, Any], metadata: dict[str, Any]
) -> "wandb.Artifact":
    """A W&B artifact, not yet logged, of the files below `source`.

    The files are read from where they are, and must stay there until they have been uploaded.

    Args:
        source: the files.
        staged: where its manifest is written.
        manifest: what `describe` says.
        metadata: plain JSON; what is not finite is null at W&B.
    """
    import wandb

    write_json(staged / MANIFEST, manifest)
    draft = wandb.Artifact(
        manifest["name"],
        type=manifest["type"],
        metadata={**_finite(metadata), "manifest_digest": digest_of(manifest)},
    )
    for path in _published(source):
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


def _published(source: Path) -> list[Path]:
    """The files to publish: those of a fetched artifact come with a manifest of their own."""
    return [path for path in list_files(source) if path != source / MANIFEST]


def load_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file; empty, and so unlike any digest, where it is damaged or missing."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest
