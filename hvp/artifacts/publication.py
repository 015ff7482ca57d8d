"""Publication: an artifact that a stage makes, known by its settings before it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.files import settings_digest
from hvp.log import say


@dataclass(frozen=True)
class Publication:
    """What is found or published under the digest of its settings."""

    name: str
    type: ArtifactType
    settings: dict[str, Any]
    """Everything it depends on, as JSON values."""
    inputs: tuple[str, ...] = ()
    """References of the artifacts that it is made from."""

    @property
    def digest(self) -> str:
        """SHA-256 of the settings."""
        return settings_digest(self.settings)

    def find(self, store: ArtifactStore) -> Artifact | None:
        """The newest version that was published for these settings, if any."""
        return store.find(self.name, self.type, self.digest)

    def publish(
        self,
        store: ArtifactStore,
        folder: Path,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Publish a folder so that `find` finds it, and say so."""
        artifact = store.publish(
            folder,
            name=self.name,
            type=self.type,
            metadata={
                "settings_digest": self.digest,
                "settings": self.settings,
                **(metadata or {}),
            },
            inputs=self.inputs,
            aliases=aliases,
        )
        say(f"published {artifact.reference}")
        return artifact
