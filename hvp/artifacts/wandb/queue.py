"""Queue of local artifacts waiting to be uploaded to W&B.

    <output_dir>/wandb/outbox/<name>-<version>.json                 the queued artifact
    <output_dir>/wandb/outbox/<name>-<version>/.hvp/manifest.json   its manifest at W&B

The files themselves stay in the local store; the log of an offline run refers to them there.
`python -m hvp.artifacts.sync` uploads the queue.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType, split_home
from hvp.artifacts.wandb.manifest import draft_artifact, manifest_digest
from hvp.artifacts.wandb.run import WandbRun
from hvp.errors import ArtifactError
from hvp.files import read_json, write_json


@dataclass(frozen=True)
class QueuedArtifact:
    """Entry of the queue: an artifact of a local store."""

    name: str
    type: ArtifactType
    reference: str
    """In the local store."""
    store: str
    """Root of that store."""
    manifest_digest: str
    """Digest of its manifest at W&B, by which it is found there."""
    inputs: tuple[str, ...]
    """Its inputs as its manifest at W&B names them."""


class UploadQueue:
    """Upload queue of the run in an output directory.

    Args:
        output_dir: the job's output directory.
        store: the local store that holds the artifacts.
    """

    def __init__(self, output_dir: Path, store: LocalStore) -> None:
        self.folder = output_dir.resolve() / "wandb" / "outbox"
        self.store = store

    def add(self, artifact: Artifact, settings: WandbRun) -> None:
        """Queue an artifact; an offline run logs it as well."""
        manifest = manifest_at_wandb(artifact, self.store)
        place = self.folder / f"{artifact.name}-{artifact.version}"
        entry = QueuedArtifact(
            name=artifact.name,
            type=artifact.type,
            reference=artifact.reference,
            store=str(self.store.root),
            manifest_digest=manifest_digest(manifest),
            inputs=tuple(manifest["inputs"]),
        )
        if place.with_name(f"{place.name}.json").exists():
            return
        run = settings.open()
        if run.offline:
            draft = draft_artifact(artifact.path, place, manifest, artifact.metadata)
            names = [alias for alias in artifact.aliases if alias != "latest"]
            run.log_artifact(draft, aliases=names)
        write_json(place.with_name(f"{place.name}.json"), asdict(entry))

    def entries(self) -> list[QueuedArtifact]:
        """All queued artifacts, oldest first."""
        paths = sorted(self.folder.glob("[!.]*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [_read(path) for path in paths]

    def remove(self, entry: QueuedArtifact) -> None:
        """Remove an artifact that has been uploaded."""
        (self.folder / f"{entry.reference.replace(':', '-')}.json").unlink()


def manifest_at_wandb(artifact: Artifact, store: ArtifactStore) -> dict[str, Any]:
    """The manifest that a local artifact has, or will have, at W&B.

    Its local inputs have other version numbers there, so they are named by content.
    """
    inputs = []
    for reference in artifact.inputs:
        if split_home(reference)[0]:
            inputs.append(reference)
            continue
        made_from = store.lineage(reference)[0]
        inputs.append(f"{made_from.name}@{manifest_digest(manifest_at_wandb(made_from, store))}")
    return {
        "name": artifact.name,
        "type": artifact.type.value,
        "settings_digest": artifact.metadata.get("settings_digest"),
        "inputs": inputs,
        "files": {path: asdict(entry) for path, entry in artifact.files.items()},
    }


def _read(path: Path) -> QueuedArtifact:
    remedy = "delete it, and run the command of this directory again to queue its artifacts anew"
    record = read_json(path, ArtifactError, remedy)
    try:
        changed = {"type": ArtifactType(record["type"]), "inputs": tuple(record["inputs"])}
        return QueuedArtifact(**{**record, **changed})
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{path}: not an entry of the upload queue ({error!r:.200}); {remedy}"
        ) from error
