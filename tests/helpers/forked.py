"""Ranks as forks of a process that has imported everything, which saves seconds per rank.

What torchrun or srun tells a rank is in its environment here too. The launcher itself is tested
with run.py (test_ranks.py).
"""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback

from hvp.config.resolvers import register_resolvers
from tests.helpers.commands import ROOT

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "hvp.data.datasets",
        "hvp.stages.image",
        "hvp.training.samples",
        "hvp.training.fsdp",
        "hvp.stages.structure",
        "tests.helpers.forked",
        "torch.distributed.checkpoint.state_dict",
    ]
)
SECONDS = 300


def train(work_dir: Path, *overrides: str, n_ranks: int = 1) -> str:
    """Run the stage on `n_ranks` processes; returns their output."""
    ranks = start(work_dir, *overrides, n_ranks=n_ranks)
    for rank in ranks:
        rank.join(SECONDS)
    printed = "".join(path.read_text() for path in sorted(work_dir.glob("printed-*.txt")))
    statuses = [rank.exitcode for rank in ranks]
    kill(ranks)
    assert statuses == [0] * n_ranks, printed
    return printed


def train_and_kill(work_dir: Path, *overrides: str, n_ranks: int, in_batch: int) -> None:
    """Start training; every process gets SIGKILL in the middle of its `in_batch`-th batch."""
    ranks = start(work_dir, *overrides, n_ranks=n_ranks, kill_in_batch=in_batch)
    for rank in ranks:
        rank.join(SECONDS)
    statuses = [rank.exitcode for rank in ranks]
    kill(ranks)
    # Another rank may notice that its peer is gone before its own signal arrives.
    assert -signal.SIGKILL in statuses, (work_dir / "printed-0.txt").read_text()
    assert 0 not in statuses


class Bomb(Callback):
    """Kills its process before the optimizer's step of one batch, counted from 1 over epochs."""

    def __init__(self, in_batch: int) -> None:
        self.in_batch = in_batch

    def on_before_optimizer_step(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.in_batch:
            os.kill(os.getpid(), signal.SIGKILL)


def start(
    work_dir: Path, *overrides: str, n_ranks: int, kill_in_batch: int | None = None
) -> list[BaseProcess]:
    work_dir.mkdir(exist_ok=True)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    ranks: list[BaseProcess] = []
    for rank in range(n_ranks):
        environment = {}
        if n_ranks > 1:
            environment = {
                "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n_ranks,
                "LOCAL_WORLD_SIZE": n_ranks, "GROUP_RANK": 0,
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                "TORCHELASTIC_RUN_ID": "forked",
            }  # fmt: skip
        arguments = (work_dir, overrides, rank, environment, kill_in_batch)
        ranks.append(CONTEXT.Process(target=_rank, args=arguments))
        ranks[-1].start()
    return ranks


def kill(ranks: Sequence[BaseProcess]) -> None:
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        rank.join()


def _rank(
    work_dir: Path,
    overrides: Sequence[str],
    rank: int,
    environment: dict[str, object],
    kill_in_batch: int | None,
) -> None:
    """Main function of one rank."""
    with (work_dir / f"printed-{rank}.txt").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {name: str(value) for name, value in environment.items()}
    os.chdir(ROOT)

    from lightning_utilities.core.rank_zero import rank_zero_only

    from hvp.launch.run import run_stage

    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    if kill_in_batch is not None:
        _plant(Bomb(kill_in_batch))
    run_stage(compose_run(work_dir, *overrides))
    sys.stdout.flush()


def _plant(callback: Callback) -> None:
    """Add a callback without changing the config, whose digest identifies checkpoints."""
    from hvp.training import fit

    build = fit.build_trainer

    def build_trainer(settings: Any, callbacks: Sequence[Callback], options: Any) -> pl.Trainer:
        return build(settings, [*callbacks, callback], options)

    fit.build_trainer = build_trainer  # type: ignore[assignment]


def rank_of_launcher(path: Path) -> None:
    """Rank zero as `hvp.launch.ranks` starts it, with the config at `path`."""
    from hvp.launch import rank

    os.environ |= {"RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    os.chdir(ROOT)
    sys.argv = ["rank", str(path)]
    rank.main()


def compose_run(work_dir: Path, *overrides: str) -> DictConfig:
    """The config of a run in `work_dir`, whose output directory is `<work_dir>/output`."""
    register_resolvers()
    where = (f"work_dir={work_dir}", f"output_dir={work_dir}/output")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", [*where, *overrides])
