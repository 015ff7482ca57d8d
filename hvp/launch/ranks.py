"""Local launcher of DDP and FSDP (torchrun): one process per device, from the composed config.

Lightning's launcher re-runs `sys.argv` for every further rank, which in a Hydra multirun would
start the whole sweep again; torchrun's launcher starts `hvp.launch.rank` instead. On SLURM the
tasks of srun already are the ranks.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from omegaconf import DictConfig, OmegaConf

from hvp.errors import ConfigError, HVPError
from hvp.files import write_text
from hvp.signals import Stopped


def local_world_size(devices: Any, accelerator: str) -> int:
    """Local world size for `trainer.devices` and `trainer.accelerator`."""
    if devices in ("auto", -1, "-1"):
        cuda = torch.cuda.device_count() if accelerator != "cpu" else 0
        return max(cuda, 1)
    try:
        return len(devices) if OmegaConf.is_list(devices) else int(devices)
    except ValueError:
        raise ConfigError(
            f"trainer.devices={devices}: expected a number of devices, a list of them or auto"
        ) from None


def started_by_launcher() -> bool:
    """Whether this process already is a rank (of torchrun, or one of several srun tasks)."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def launch(config: DictConfig, n_ranks: int) -> None:
    """Run the stage of a resolved config on `n_ranks` local ranks; all end when one fails.

    Rank zero prints to the terminal, the others to logs in `<output_dir>/ranks`.

    Raises:
        HVPError: a rank failed; the traceback of the first one is printed to stderr.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder = Path(config.output_dir) / "ranks"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "config.yaml"
    write_text(path, OmegaConf.to_yaml(config))
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n_ranks,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(
            log_dir=str(folder), redirects=dict.fromkeys(range(1, n_ranks), Std.ALL)
        ),
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "hvp.launch.rank", str(path))
    except SignalException as stopped:
        print(
            f"stage {config.stage.name} was stopped by {stopped.sigval.name}, and its ranks with "
            "it; run the same command again to go on from the last checkpoint",
            file=sys.stderr,
        )
        raise Stopped(stopped.sigval) from None
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        rank, reason = _first_failure(folder) or (rank, failure.message)
        raise HVPError(f"rank {rank} of stage {config.stage.name} failed: {reason}") from None


def _first_failure(folder: Path) -> tuple[int, str] | None:
    """Rank that failed first and its error; prints its traceback to stderr."""
    failures = [json.loads(path.read_text()) for path in folder.glob("failed-*.json")]
    if not failures:
        return None
    first = min(failures, key=lambda failure: failure["time_ns"])
    if first["traceback"]:
        print(f"rank {first['rank']} failed first:\n{first['traceback']}", file=sys.stderr)
    return first["rank"], first["reason"]
