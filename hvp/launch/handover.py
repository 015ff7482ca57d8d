"""Handover: which artifact of an earlier stage of a pipeline a later one reads."""

from collections.abc import Sequence

from hydra import compose

from hvp.artifacts.store import Artifact
from hvp.errors import HVPError
from hvp.launch.stage import Stage, build_stage

STAGES = ("prepare", "structure", "image", "evaluate")
"""The stages of a pipeline, in their order."""
# The key by which later stages name what a stage has published.
_HANDS_ON = {"structure": "predictions", "image": "videos"}


def compose_stage(stage: str, overrides: Sequence[str]) -> Stage:
    """The stage of that name with these overrides, nothing run."""
    return build_stage(compose("config", [f"stage={stage}", *overrides]))


def handed_on(stage: str, overrides: Sequence[str]) -> list[str]:
    """The overrides by which `stage` reads what the stages before it have published.

    Raises:
        HVPError: one of them has not.
    """
    references: list[str] = []
    for before in STAGES[: STAGES.index(stage)]:
        if before in _HANDS_ON and f"{_HANDS_ON[before]}=null" not in overrides:
            known = [*overrides, *references]
            references += reference(before, published_by(before, known))
    return references


def reference(stage: str, published: Artifact) -> list[str]:
    """The override by which later stages read what `stage` published; none where none does."""
    return [f"{_HANDS_ON[stage]}={published.reference}"] if stage in _HANDS_ON else []


def published_by(stage: str, overrides: Sequence[str]) -> Artifact:
    """What `stage` has published with these overrides.

    Raises:
        HVPError: nothing.
    """
    published = compose_stage(stage, overrides).find_published()
    if published is None:
        raise HVPError(f"stage {stage} ended without publishing; see its output")
    return published
