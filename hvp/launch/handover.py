"""What the stages of a pipeline hand on: which artifact of an earlier stage a later one reads."""

from collections.abc import Sequence
from importlib import import_module

from hydra import compose
from hydra.utils import instantiate

from hvp.artifacts.store import Artifact
from hvp.errors import HVPError

STAGES = ("prepare", "structure", "image", "evaluate")
"""The stages of a pipeline, in their order."""
# The key by which later stages name what a stage has published.
_HANDS_ON = {"structure": "predictions", "image": "videos"}


def find_published(stage: str, overrides: Sequence[str]) -> Artifact | None:
    """What `stage` would publish with these overrides, if it exists already."""
    config = compose("config", [f"stage={stage}", *overrides])
    found: Artifact | None = import_module(f"hvp.stages.{stage}").find_published(
        config, instantiate(config.artifacts)
    )
    return found


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
    published = find_published(stage, overrides)
    if published is None:
        raise HVPError(f"stage {stage} ended without publishing; see its output")
    return published
