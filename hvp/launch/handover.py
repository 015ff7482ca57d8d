"""Overrides by which the stages of a pipeline read the artifacts of earlier stages."""

from collections.abc import Sequence

from hydra import compose

from hvp.artifacts.store import Artifact
from hvp.config.pipeline import STAGES
from hvp.errors import HVPError
from hvp.launch.stage import Stage, build_stage

# Config key of later stages for the artifact of a stage.
_OUTPUT_KEYS = {"structure": "predictions", "image": "videos"}


def compose_stage(stage: str, overrides: Sequence[str]) -> Stage:
    """Compose the config of a stage and build it, without running it."""
    return build_stage(compose("config", [f"stage={stage}", *overrides]))


def input_overrides(stage: str, overrides: Sequence[str]) -> list[str]:
    """Overrides by which `stage` reads the artifacts of all earlier stages.

    Raises:
        HVPError: one of them has not been published.
    """
    references: list[str] = []
    for before in STAGES[: STAGES.index(stage)]:
        if before in _OUTPUT_KEYS and f"{_OUTPUT_KEYS[before]}=null" not in overrides:
            known = [*overrides, *references]
            references += output_override(before, published_artifact(before, known))
    return references


def output_override(stage: str, published: Artifact) -> list[str]:
    """Override by which later stages read the artifact of `stage`; empty if none does."""
    return [f"{_OUTPUT_KEYS[stage]}={published.reference}"] if stage in _OUTPUT_KEYS else []


def published_artifact(stage: str, overrides: Sequence[str]) -> Artifact:
    """Artifact that `stage` has published for these overrides.

    Raises:
        HVPError: there is none.
    """
    published = compose_stage(stage, overrides).find_published()
    if published is None:
        raise HVPError(f"stage {stage} ended without publishing; see its output")
    return published
