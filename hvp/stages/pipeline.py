"""Stage `pipeline`: prepare -> structure -> image -> evaluate, one process of run.py each.

With hydra/launcher=slurm (or another SLURM launcher) they become dependent jobs.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.config.digests import slurm_without_sweep
from hvp.errors import HVPError
from hvp.launch import slurm
from hvp.launch.handover import STAGES, find_published, published_by, reference
from hvp.log import say
from hvp.stages.evaluate import stage as evaluate
from hvp.training.dataset import STRUCTURE_CHANNELS, build_datamodule, has_frames

RUN = Path(__file__).resolve().parents[2] / "run.py"


def run(config: DictConfig) -> None:
    """Run every stage that is not done for these settings; the first failure ends the pipeline."""
    overrides = [o for o in HydraConfig.get().overrides.task if not o.startswith("stage=")]
    stages = list(STAGES)
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
            published = published_by(stage, overrides)
        overrides += reference(stage, published)


def _run_stage(stage: str, arguments: list[str]) -> None:
    command = ["run.py", *arguments]
    say(f"\n{stage}: python {shlex.join(command)}", style="bold")
    status = subprocess.run([sys.executable, str(RUN), *arguments], check=False).returncode
    if status:
        raise HVPError(
            f"stage {stage} failed (exit status {status}); its message stands above. "
            f"Run the same command again to go on from there"
        )
