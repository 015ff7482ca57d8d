"""Stage `pipeline`: prepare -> structure -> image -> evaluate, one process of run.py each.

With hydra/launcher=slurm (or another SLURM launcher) they become dependent jobs.
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.artifacts.store import Artifact
from hvp.errors import HVPError
from hvp.log import say
from hvp.stages import evaluate
from hvp.stages.clips import STRUCTURE_CHANNELS, build_datamodule, has_frames
from hvp.stages.settings import slurm_without_sweep

RUN = Path(__file__).resolve().parents[2] / "run.py"
_STAGES = ("prepare", "structure", "image", "evaluate")
# The key by which later stages name what a stage has published.
_HANDS_ON = {"structure": "predictions", "image": "videos"}


def run(config: DictConfig) -> None:
    """Run every stage that is not done for these settings; the first failure ends the pipeline."""
    from hvp.stages import slurm

    overrides = [o for o in HydraConfig.get().overrides.task if not o.startswith("stage=")]
    stages = list(_STAGES)
    if not has_frames(build_datamodule(config, "structure", STRUCTURE_CHANNELS)):
        say(f"dataset {config.dataset.name} has no RGB: without stage image")
        stages.remove("image")
        overrides.append("videos=null")
    for i, stage in enumerate(stages):
        published = None if config.force else find_published(stage, overrides)
        if published is not None:
            say(f"{stage}: done for these settings, {published.reference}")
            if stage == "evaluate":
                child = compose("config", [f"stage={stage}", *overrides])
                evaluate.show_published(child, instantiate(child.artifacts), published)
        elif slurm_without_sweep():
            slurm.submit(config, stages[i:], overrides)
            return
        else:
            _run_stage(stage, [f"stage={stage}", *overrides])
            published = _published(stage, overrides)
        overrides += _reference(stage, published)


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
    for before in _STAGES[: _STAGES.index(stage)]:
        if before in _HANDS_ON and f"{_HANDS_ON[before]}=null" not in overrides:
            known = [*overrides, *references]
            references += _reference(before, _published(before, known))
    return references


def _reference(stage: str, published: Artifact) -> list[str]:
    return [f"{_HANDS_ON[stage]}={published.reference}"] if stage in _HANDS_ON else []


def _published(stage: str, overrides: Sequence[str]) -> Artifact:
    published = find_published(stage, overrides)
    if published is None:
        raise HVPError(f"stage {stage} ended without publishing; see its output")
    return published


def _run_stage(stage: str, arguments: list[str]) -> None:
    command = ["run.py", *arguments]
    say(f"\n{stage}: python {shlex.join(command)}", style="bold")
    status = subprocess.run([sys.executable, str(RUN), *arguments], check=False).returncode
    if status:
        raise HVPError(
            f"stage {stage} failed (exit status {status}); its message stands above. "
            f"Run the same command again to go on from there"
        )
