"""Stage `pipeline`: prepare -> structure -> image -> evaluate, one process of run.py each."""

import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.errors import HVPError
from hvp.log import say
from hvp.stages import evaluate
from hvp.stages.clips import STRUCTURE_CHANNELS, build_datamodule, has_frames

RUN = Path(__file__).resolve().parents[2] / "run.py"
# The key by which later stages name what a stage has published.
_HANDS_ON = {"structure": "predictions", "image": "videos"}


def run(config: DictConfig) -> None:
    """Run every stage that is not done for these settings; the first failure ends the pipeline."""
    overrides = [o for o in HydraConfig.get().overrides.task if not o.startswith("stage=")]
    store = instantiate(config.artifacts)
    stages = ["prepare", "structure", "image", "evaluate"]
    if not has_frames(build_datamodule(config, "structure", STRUCTURE_CHANNELS)):
        say(f"dataset {config.dataset.name} has no RGB: without stage image")
        stages.remove("image")
        overrides.append("videos=null")
    for stage in stages:
        arguments = [f"stage={stage}", *overrides]
        child = compose("config", arguments)
        module = import_module(f"hvp.stages.{stage}")
        published = None if config.force else module.find_published(child, store)
        if published is None:
            _run_stage(stage, arguments)
            published = module.find_published(child, store)
            if published is None:
                raise HVPError(f"stage {stage} ended without publishing; see its output above")
        else:
            say(f"{stage}: done for these settings, {published.reference}")
            if stage == "evaluate":
                evaluate.show_published(child, store, published)
        if stage in _HANDS_ON:
            overrides.append(f"{_HANDS_ON[stage]}={published.reference}")


def _run_stage(stage: str, arguments: list[str]) -> None:
    command = ["run.py", *arguments]
    say(f"\n{stage}: python {shlex.join(command)}", style="bold")
    status = subprocess.run([sys.executable, str(RUN), *arguments], check=False).returncode
    if status:
        raise HVPError(
            f"stage {stage} failed (exit status {status}); its message stands above. "
            f"Run the same command again to go on from there"
        )
