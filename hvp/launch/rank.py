"""Entry point of one rank: `python -m hvp.launch.rank CONFIG.yaml`, started by `launch.ranks`."""

import ctypes
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from hvp.errors import HVPError
from hvp.files import write_json
from hvp.launch.run import run_stage
from hvp.signals import Stopped, handle_signals

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run the stage of the config file given as the only argument."""
    _die_with_parent()
    handle_signals()
    path = Path(sys.argv[1])
    if "OMP_NUM_THREADS" not in os.environ:
        n_cores = len(os.sched_getaffinity(0))
        torch.set_num_threads(max(1, n_cores // int(os.environ["LOCAL_WORLD_SIZE"])))
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    try:
        run_stage(config)
    except Stopped as stopped:
        sys.stdout.flush()
        os._exit(int(str(stopped.code)))  # an orderly exit would wait for the other ranks
    except Exception as error:
        # The launcher prints the first failure only; the others follow from it.
        expected = isinstance(error, HVPError)
        rank = int(os.environ["RANK"])
        failure = {
            "rank": rank,
            "time_ns": time.time_ns(),
            "reason": str(error) if expected else f"{type(error).__name__}: {error}",
            "traceback": "" if expected else traceback.format_exc(),
        }
        write_json(path.with_name(f"failed-{rank}.json"), failure)
        sys.stdout.flush()
        os._exit(1)  # an orderly exit would wait for the other ranks


def _die_with_parent() -> None:
    """Parent-death signal (Linux): kill this process when the launcher dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
