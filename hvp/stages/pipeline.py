"""Stage `pipeline`: prepare -> structure -> image -> evaluate, each in a process of run.py.

With a SLURM launcher (hydra/launcher=slurm) they are submitted as dependent jobs.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig

from hvp.artifacts.store import Artifact
from hvp.config.build import build_datamodule
from hvp.config.resolvers import command_line, launcher, search_path, slurm_without_sweep
from hvp.config.settings import dataset_settings, run_settings
from hvp.errors import HVPError
from hvp.launch import slurm
from hvp.launch.handover import STAGES, compose_stage, output_override, published_artifact
from hvp.log import say
from hvp.signals import ends_after_a_batch, received, stop_if_signalled

RUN = Path(__file__).resolve().parents[2] / "run.py"
_LOOK_SECONDS = 0.2  # between looks for signals to pass on


class Pipeline:
    """Runs the four stages in order; see `hvp.launch.stage.Stage`."""

    def __init__(self, config: DictConfig) -> None:
        self.settings = run_settings(config)
        self.data = dataset_settings(config)

    def run(self) -> None:
        """Run every stage without a result for these settings; stop at the first failure."""
        overrides = [o for o in command_line() if not o.startswith("stage=")] + search_path()
        stages = list(STAGES)
        if not build_datamodule(self.data, ("labels",)).has_frames:
            say(f"dataset {self.settings.dataset} has no RGB: without stage image")
            stages.remove("image")
            overrides.append("videos=null")
        elif "videos=null" in overrides:
            stages.remove("image")
        for i, name in enumerate(stages):
            stage = compose_stage(name, overrides)
            published = None if self.settings.force else stage.find_published()
            if published is not None and name == stages[-1]:
                stage.run()  # shows what it has published
            elif published is not None:
                say(f"{name}: done for these settings, {published.reference}")
            elif slurm_without_sweep():
                folder = self.settings.output_dir.resolve() / "slurm"
                slurm.submit(folder, stages[i:], overrides, launcher())
                return
            else:
                _run_stage(name, [f"stage={name}", *overrides])
                published = published_artifact(name, overrides)
            overrides += output_override(name, published)

    def find_published(self) -> Artifact | None:
        """None: a pipeline is never skipped as a whole."""
        return None


def _run_stage(stage: str, arguments: list[str]) -> None:
    command = ["run.py", *arguments]
    say(f"\n{stage}: python {shlex.join(command)}", style="bold")
    with subprocess.Popen([sys.executable, str(RUN), *arguments]) as process, ends_after_a_batch():
        while (status := _status(process)) is None:
            if (number := received()) is not None:
                process.send_signal(number)
                status = process.wait()
                break
    stop_if_signalled()
    if status:
        raise HVPError(
            f"stage {stage} failed (exit status {status}); its message stands above. "
            f"Run the same command again to go on from there"
        )


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """Exit status of a process; None while it runs."""
    try:
        return process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None
