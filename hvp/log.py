"""One logger and one progress bar for the whole package, silent on every rank but zero."""

import logging
import warnings
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from pytorch_lightning.utilities.rank_zero import rank_zero_only
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
from torch import Tensor

T = TypeVar("T")

# Lightning's own lines (devices, tips) would bury ours; its warnings stay, but for one that only
# Lightning's authors can act on.
for _name in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")

console = Console(soft_wrap=True)


class _RateColumn(ProgressColumn):
    """Items per second, with the unit given to `track`."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "it")
        return Text("" if speed is None else f"{speed:.1f} {unit}/s", style="progress.data.speed")


@rank_zero_only
def say(message: str, style: str | None = None) -> None:
    """Print one line for the user (rank zero only), as it is; `style` is one of `rich`."""
    console.print(message, style=style, markup=False, highlight=False)


def mean_over_ranks(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars of one device averaged over the ranks, in one exchange; every rank names the same."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return values
    together = torch.stack([value.detach().float() for value in values.values()])
    dist.all_reduce(together)
    return dict(zip(values, (together / dist.get_world_size()).unbind(), strict=True))


def progress_bar() -> Progress:
    """The package's progress bar: description, bar, count, rate, time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=getattr(rank_zero_only, "rank", 0) != 0,
    )


def track(items: Iterable[T], description: str, total: int, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` behind a progress bar that counts `total` of `unit`."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total, unit=unit)
        for item in items:
            yield item
            bar.advance(task)
