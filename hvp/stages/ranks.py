"""One process per device, each started from the already composed config of its job.

Lightning's own launcher would re-run `sys.argv` for every further rank, which under a Hydra
multirun starts the whole sweep again; torchrun starts this module instead.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from hvp.errors import ConfigError, HVPError
from hvp.files import write_text


def wanted(config: DictConfig) -> int:
    """How many ranks this machine should run for `config.trainer.devices`."""
    devices = config.trainer.devices
    if devices in ("auto", -1, "-1"):
        cuda = torch.cuda.device_count() if config.trainer.accelerator != "cpu" else 0
        return max(cuda, 1)
    try:
        return len(devices) if OmegaConf.is_list(devices) else int(devices)
    except ValueError:
        raise ConfigError(
            f"trainer.devices={devices}: expected a number of devices, a list of them or auto"
        ) from None


def started_by_launcher() -> bool:
    """Whether this process is a rank already (torchrun, or one of several srun tasks)."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def launch(config: DictConfig, n_ranks: int) -> None:
    """Run the stage of `config` on `n_ranks` local ranks; ends all when one fails."""
    path = Path(config.output_dir) / "ranks.yaml"
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    resolved.trainer.devices = n_ranks
    write_text(path, OmegaConf.to_yaml(resolved))
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={n_ranks}"]
    command = [sys.executable, "-m", *torchrun, "-m", "hvp.stages.ranks", str(path)]
    status = subprocess.run(command, check=False).returncode
    if status:
        raise HVPError(
            f"a rank of stage {config.stage.name} failed (exit status {status}); its message "
            "stands above. Run the same command again to go on from the last checkpoint"
        )


def main() -> None:
    """Entry point of one rank: `python -m hvp.stages.ranks CONFIG.yaml`."""
    from hvp.stages import run_stage

    config = OmegaConf.load(sys.argv[1])
    assert isinstance(config, DictConfig)
    try:
        run_stage(config)
    except HVPError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
