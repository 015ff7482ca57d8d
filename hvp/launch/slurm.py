"""SLURM jobs of a pipeline: one sbatch job per stage, with a dependency on the one before.

The inputs of a stage exist only after the earlier stages have run, so a job resolves them when it
starts: `python -m hvp.launch.slurm OUTPUT_DIR STAGE OVERRIDES` then executes run.py.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir

from hvp.config.pipeline import TRAINED
from hvp.config.resolvers import register_resolvers
from hvp.errors import ConfigError, HVPError
from hvp.files import write_text
from hvp.launch.handover import input_overrides
from hvp.log import say
from hvp.signals import orderly_exit

_ROOT = Path(__file__).resolve().parents[2]
# Keys of Hydra's submitit launcher: names of the same options in sbatch.
_OPTIONS = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint",
    "exclude": "exclude", "comment": "comment", "cpus_per_task": "cpus-per-task",
    "gpus_per_node": "gpus-per-node", "gpus_per_task": "gpus-per-task", "gres": "gres",
    "timeout_min": "time",
}  # fmt: skip


def submit(
    folder: Path, stages: Sequence[str], overrides: Sequence[str], launcher: Mapping[str, Any]
) -> list[str]:
    """Submit one job per stage, each with `afterok` on the one before; returns the job ids.

    Args:
        folder: directory of batch scripts and logs.
        stages: in order.
        overrides: overrides of the pipeline's command.
        launcher: settings of Hydra's launcher (`hydra.launcher`).
    """
    jobs: list[str] = []
    for stage in stages:
        script = folder / f"{stage}.sh"
        after = jobs[-1] if jobs else None
        write_text(script, _batch_script(stage, overrides, launcher, folder, after))
        try:
            done = subprocess.run(
                ["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=True
            )
        except FileNotFoundError:
            raise ConfigError(
                "hydra/launcher is one for SLURM, but there is no sbatch here; run this on a login "
                "node of the cluster, or without hydra/launcher=..."
            ) from None
        except subprocess.CalledProcessError as error:
            raise HVPError(f"sbatch refused {script}: {error.stderr.strip()}") from None
        jobs.append(done.stdout.strip().split(";")[0])
        waits = f", after job {after}" if after else ""
        say(f"{stage}: job {jobs[-1]}{waits}; output in {folder / (stage + '.log')}")
    return jobs


def _batch_script(
    stage: str,
    overrides: Sequence[str],
    launcher: Mapping[str, Any],
    folder: Path,
    after: str | None,
) -> str:
    """Batch script of one stage; stages that do not train get one task."""
    ranks = stage in TRAINED
    options = {
        "job-name": f"hvp-{stage}",
        "nodes": launcher["nodes"] if ranks else 1,
        "ntasks-per-node": launcher["tasks_per_node"] if ranks else 1,
        "output": folder / f"{stage}.log",
        "open-mode": "append",
        "requeue": "",
    }
    options |= {name: launcher.get(key) for key, name in _OPTIONS.items()}
    if launcher.get("mem_gb") is not None:
        options["mem"] = f"{launcher['mem_gb']}G"
    options |= launcher.get("additional_parameters") or {}
    if after is not None:
        options |= {"dependency": f"afterok:{after}", "kill-on-invalid-dep": "yes"}
    lines = [f"--{name}={value}" if value != "" else f"--{name}" for name, value in options.items()
             if value is not None]  # fmt: skip
    command = [sys.executable, "-m", "hvp.launch.slurm", str(folder.parent), stage, *overrides]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in lines),
            *(launcher.get("setup") or []),
            f"cd {shlex.quote(str(Path.cwd()))}",
            f"srun --unbuffered --kill-on-bad-exit {shlex.join(command)}",
            "",
        ]
    )


def main() -> None:
    """Entry point of a job: exec run.py with overrides for the artifacts of earlier stages."""
    output_dir, stage, *overrides = sys.argv[1:]
    register_resolvers()
    try:
        with initialize_config_dir(str(_ROOT / "conf"), version_base="1.3"):
            # Outside of Hydra's main nothing else sets the output directory.
            references = input_overrides(stage, [f"output_dir='{output_dir}'", *overrides])
    except HVPError as error:
        sys.exit(f"error: {error}")
    run = str(_ROOT / "run.py")
    os.execv(sys.executable, [sys.executable, run, f"stage={stage}", *overrides, *references])


if __name__ == "__main__":
    with orderly_exit():
        main()
