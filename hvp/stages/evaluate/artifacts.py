"""Input artifacts of an evaluation: label predictions, translated videos, SVG-LP on RGB."""

from dataclasses import dataclass

from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.artifacts.videos import VideoSet
from hvp.stages.evaluate.settings import EvaluationSettings


@dataclass(frozen=True)
class NamedArtifacts:
    """Input artifacts of an evaluation, fetched."""

    predictions: Artifact | None
    """Label predictions; None if a folder is evaluated."""
    videos: Artifact | None
    svg_rgb: Artifact | None

    @property
    def references(self) -> tuple[str, ...]:
        """References of all of them, with versions."""
        return tuple(a.reference for a in (self.predictions, self.videos, self.svg_rgb) if a)


def fetch_artifacts(settings: EvaluationSettings, store: ArtifactStore) -> NamedArtifacts:
    """Fetch the artifacts that the settings name."""
    own = settings.foreign is None
    wanted = (
        (settings.predictions if own else None, ArtifactType.PREDICTIONS),
        (settings.videos if own else None, ArtifactType.VIDEOS),
        (settings.svg_rgb, ArtifactType.VIDEOS),
    )
    return NamedArtifacts(
        *(None if name is None else store.fetch(name, type) for name, type in wanted)
    )


def checkpoints_of(store: ArtifactStore, artifacts: NamedArtifacts) -> tuple[str, ...]:
    """Checkpoints of the artifacts: references, or the SHA-256 of files outside the store."""
    found: list[str] = []
    sets = (
        (artifacts.predictions, PredictionSet),
        (artifacts.videos, VideoSet),
        (artifacts.svg_rgb, VideoSet),
    )
    for artifact, open_set in sets:
        if artifact is None:
            continue
        named = [
            ancestor.reference
            for ancestor in store.lineage(artifact.reference)
            if ancestor.type is ArtifactType.CHECKPOINT and ancestor.reference in artifact.inputs
        ]
        digest = open_set(artifact.path).header.checkpoint_digest
        found += named or [f"{artifact.name} (sha256 {digest[:16]})"] * bool(digest)
    return tuple(found)
