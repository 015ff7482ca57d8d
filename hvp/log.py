"""Console output and progress bars, on rank zero only; rank and world size of this process."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

from lightning_utilities.core.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hvp.text import visible

T = TypeVar("T")


def rank() -> int:
    """Global rank of this process: from Lightning, else from the launcher's environment."""
    known = getattr(rank_zero_only, "rank", None)
    if known is not None:
        return int(known)
    variables = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # Lightning's order
    return next((int(os.environ[name]) for name in variables if name in os.environ), 0)


def world_size() -> int:
    """World size: number of ranks of this job, from the launcher's environment."""
    variables = ("WORLD_SIZE", "SLURM_NTASKS", "JSM_NAMESPACE_SIZE")
    return next((int(os.environ[name]) for name in variables if name in os.environ), 1)


# Lightning, which takes seconds to import, keeps what is set here.
rank_zero_only.rank = rank()  # type: ignore[attr-defined]


def quiet_lightning() -> None:
    """Silence Lightning's info messages (devices, tips); its warnings stay.

    Call it after Lightning is imported: the import resets the log levels.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # One warning that only Lightning's authors can act on, and one that would have every run on a
    # machine with SLURM started by srun, where `trainer=ddp` and `hydra/launcher=slurm` do that.
    for message in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",
        r"The `srun` command is available on your system but is not used",
    ):
        warnings.filterwarnings("ignore", message=message)


console = Console(soft_wrap=True)


class _RateColumn(ProgressColumn):
    """Throughput column: items per second, with the unit given to `track`."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "it")
        return Text("" if speed is None else f"{speed:.1f} {unit}/s", style="progress.data.speed")


@rank_zero_only
def say(message: str, style: str | None = None) -> None:
    """Print one line on rank zero, without markup; `style` is a rich style.

    Control characters in it, as names of files may have, are shown escaped.
    """
    console.print(visible(message), style=style, markup=False, highlight=False)


def track(items: Iterable[T], description: str, total: int, unit: str = "it") -> Iterator[T]:
    """Progress bar around an iteration: description, bar, count of `total`, `unit`/s, time left."""
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=rank() != 0,
    )
    with progress as bar:
        task = bar.add_task(visible(description), total=total, unit=unit)
        for item in items:
            yield item
            bar.advance(task)
