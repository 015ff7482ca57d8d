"""Artifacts of the local store that W&B is to have: noted here until they have arrived.

    <output_dir>/wandb/outbox/<name>-<version>.json                 what is to be sent
    <output_dir>/wandb/outbox/<name>-<version>/.hvp/manifest.json   its manifest at W&B

The files themselves stay in the local store, where an offline run's log points to.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType, split_home
from hvp.artifacts.wandb.manifest import digest_of, draft_artifact
from hvp.artifacts.wandb.run import WandbRun
from hvp.files import write_json


@dataclass(frozen=True)
class Parcel:
    """One artifact to be sent."""

    name: str
    type: ArtifactType
    reference: str
    """In the local store."""
    store: str
    """Root of that store."""
    manifest_digest: str
    """By which it is recognised at W&B."""
    inputs: tuple[str, ...]
    """What it was made from, as its manifest at W&B says."""


class Outbox:
    """What the run of an output directory still has to send.

    Args:
        output_dir: the job's output directory.
        store: the local store that holds the artifacts.
    """

    def __init__(self, output_dir: Path, store: LocalStore) -> None:
        self.folder = output_dir.resolve() / "wandb" / "outbox"
        self.store = store

    def add(self, artifact: Artifact, settings: WandbRun) -> None:
        """Note an artifact; an offline run gets it into its log as well."""
        manifest = manifest_at_wandb(artifact, self.store)
        place = self.folder / f"{artifact.name}-{artifact.version}"
        parcel = Parcel(
            name=artifact.name,
            type=artifact.type,
            reference=artifact.reference,
            store=str(self.store.root),
            manifest_digest=digest_of(manifest),
            inputs=tuple(manifest["inputs"]),
        )
        if place.with_name(f"{place.name}.json").exists():
            return
        run = settings.open()
        if run.offline:
            draft = draft_artifact(artifact.path, place, manifest, artifact.metadata)
            names = [alias for alias in artifact.aliases if alias != "latest"]
            run.log_artifact(draft, aliases=names)
        write_json(place.with_name(f"{place.name}.json"), asdict(parcel))

    def parcels(self) -> list[Parcel]:
        """Everything that was added and has not been removed, oldest first."""
        paths = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [_parcel(json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    def remove(self, parcel: Parcel) -> None:
        """Forget what has arrived."""
        (self.folder / f"{parcel.reference.replace(':', '-')}.json").unlink()


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
        inputs.append(f"{made_from.name}@{digest_of(manifest_at_wandb(made_from, store))}")
    return {
        "name": artifact.name,
        "type": artifact.type.value,
        "settings_digest": artifact.metadata.get("settings_digest"),
        "inputs": inputs,
        "files": {path: asdict(entry) for path, entry in artifact.files.items()},
    }


def _parcel(record: dict[str, Any]) -> Parcel:
    return Parcel(
        **{**record, "type": ArtifactType(record["type"]), "inputs": tuple(record["inputs"])}
    )
