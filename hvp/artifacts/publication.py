"""Publication: an artifact to publish, named by the settings it is made with and found by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.files import settings_digest
from hvp.log import say
from hvp.machine_paths import without_machine_paths


@dataclass(frozen=True)
class Publication:
    """What a stage publishes, known before it is made."""

    name: str
    """Name of the artifact, for example `structure-kitti`."""
    type: ArtifactType
    settings: dict[str, Any]
    """Everything the files depend on: JSON values."""
    inputs: tuple[str, ...] = ()
    """References of the artifacts it is made from (lineage)."""

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, in hex."""
        return settings_digest(self.settings)

    def find(self, store: ArtifactStore) -> Artifact | None:
        """The newest version made with the same settings, if any; see `ArtifactStore.find`."""
        return store.find(self.name, self.type, self.digest)

    def publish(
        self,
        store: ArtifactStore,
        folder: Path,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] = {},
        work_dir: Path = Path(),
    ) -> Artifact:
        """Publish the files of `folder` so that `find` finds them, and say their reference.

        Args:
            store: where to.
            folder: the finished files.
            aliases: names to move to the new version.
            metadata: more JSON values about how the files were made, beside the settings.
            work_dir: folder that paths in the published settings are relative to; the digest is
                that of the settings as they are.

        Raises:
            ArtifactError: see `ArtifactStore.publish`.
        """
        artifact = store.publish(
            folder,
            name=self.name,
            type=self.type,
            metadata={
                "settings_digest": self.digest,
                "settings": without_machine_paths(self.settings, work_dir),
                **metadata,
            },
            inputs=self.inputs,
            aliases=aliases,
        )
        say(f"published {artifact.reference}")
        return artifact
