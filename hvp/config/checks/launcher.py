"""Checks of Hydra's launcher, which starts the jobs of a sweep or, on SLURM, of a pipeline."""

import shutil

from omegaconf import DictConfig

from hvp.errors import ConfigError


def check_slurm(launcher: DictConfig) -> None:
    """Check that jobs can be submitted, where the launcher is one for SLURM.

    Raises:
        ConfigError: this machine has no sbatch.
    """
    is_slurm = str(launcher.get("_target_", "")).endswith("SlurmLauncher")
    if is_slurm and shutil.which("sbatch") is None:
        raise ConfigError(
            "hydra/launcher is one for SLURM, but there is no sbatch here; run this on a login "
            "node of the cluster, or without hydra/launcher=..."
        )
