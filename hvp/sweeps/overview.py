"""Overview table of a sweep's jobs: terminal, CSV file and W&B."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from hvp import tables
from hvp.sweeps.record import JobRecord, read_records
from hvp.text import visible

if TYPE_CHECKING:
    from rich.text import Text

OVERVIEW_FILE = "overview.csv"
_LAST = ("seconds", "output_dir", "error")  # columns

Row = dict[str, Any]


class SweepOverview(Callback):
    """Hydra callback: shows the table after the last job; fails the sweep if a job failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print, write and log the table."""
        sweep_dir = Path(config.hydra.sweep.dir)
        records = read_records(sweep_dir)
        if not records:
            return
        write_csv(sweep_dir)
        _print(records, config.sweep.direction, sweep_dir)
        try:
            _log(records, config, sweep_dir)
        finally:  # also if W&B fails
            failed = [record for record in records if record.state == "failed"]
            if failed:
                sys.exit(
                    f"error: {len(failed)} of {len(records)} jobs failed, the first one with: "
                    f"{failed[0].error}. Start the same sweep again to repeat those alone"
                )


def write_csv(sweep_dir: Path) -> None:
    """Write `overview.csv`: one row per started job, with all its metrics."""
    rows = [_row(record) for record in read_records(sweep_dir)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.sort(key=_LAST.__contains__)
    tables.write_csv(sweep_dir / OVERVIEW_FILE, columns, rows)


def _row(record: JobRecord) -> Row:
    ranked = {} if record.metric is None else {record.metric: record.value}
    return {
        "job": record.number,
        "state": _state(record),
        **_overrides(record),
        **ranked,
        **{name: value for name, value in record.metrics.items() if name not in ranked},
        "seconds": round(record.seconds, 1),
        "output_dir": record.output_dir,
        "error": record.error or "",
    }


def _state(record: JobRecord) -> str:
    return "unfinished" if record.state == "running" else record.state


def _overrides(record: JobRecord) -> dict[str, str]:
    pairs = (override.partition("=") for override in record.overrides)
    return {key.lstrip("+~"): value for key, _, value in pairs}


def varied_keys(records: Sequence[JobRecord]) -> list[str]:
    """Overridden keys whose values differ between jobs; all keys if there is one job."""
    overrides = [_overrides(record) for record in records]
    keys = dict.fromkeys(key for job in overrides for key in job)
    return [k for k in keys if len(records) == 1 or len({job.get(k) for job in overrides}) > 1]


def best_job(records: Sequence[JobRecord], direction: str) -> JobRecord | None:
    """Best finished job, if any."""
    ranked = [r for r in records if r.state == "finished" and r.value is not None]
    sign = 1.0 if direction == "minimize" else -1.0
    return min(ranked, key=lambda record: sign * (record.value or 0.0), default=None)


def _print(records: Sequence[JobRecord], direction: str, sweep_dir: Path) -> None:
    from rich.table import Table

    from hvp.log import console, say

    keys, winner = varied_keys(records), best_job(records, direction)
    rows = [{**_row(record), "minutes": round(record.seconds / 60, 1)} for record in records]
    ranked = list(dict.fromkeys(record.metric for record in records if record.metric))
    titles = dict(zip(keys, _titles(keys), strict=True))
    columns = ["job", "state", "minutes", *keys, *ranked]
    for name in dict.fromkeys(m for r in records for m in r.metrics if m.startswith("val/")):
        if name not in columns and _table_width([*columns, name], titles, rows) <= console.width:
            columns.append(name)
    table = Table(title=tables.cell(f"sweep {sweep_dir}"), title_justify="left")
    for column in columns:
        table.add_column(_cell(titles.get(column, column)), overflow="fold")
    for record, row in zip(records, rows, strict=True):
        style = "bold green" if record is winner else None
        table.add_row(*(_cell(_formatted(row.get(name))) for name in columns), style=style)
    console.print(table)
    for record in records:
        if record.error:
            say(f"job {record.number}: {record.error}", style="red")
    if winner is not None:
        say(f"best     job {winner.number}, {winner.metric} {winner.value:.6g}")
    say(f"table    {sweep_dir / OVERVIEW_FILE}")


def _cell(text: str) -> "Text":
    return tables.cell(visible(text))


def _table_width(columns: Sequence[str], titles: Mapping[str, str], rows: Sequence[Row]) -> int:
    """Width of a table of these columns, in characters, with borders."""
    cells = ([titles.get(c, c), *(_formatted(row.get(c)) for row in rows)] for c in columns)
    return 1 + sum(max(map(len, column)) + 3 for column in cells)


def _titles(keys: Sequence[str]) -> list[str]:
    """Column titles: the last parts of the keys; whole keys where those are ambiguous."""
    short = [key.rsplit(".", 1)[-1] for key in keys]
    return [part if short.count(part) == 1 else key for part, key in zip(short, keys, strict=True)]


def _formatted(value: Any) -> str:
    """Format a cell: numbers, also those in overrides, with four digits."""
    if value is None or isinstance(value, int):
        return str("" if value is None else value)
    try:
        return str(value) if str(value).isdigit() else f"{float(value):.4g}"
    except ValueError:
        return str(value)


def _log(records: Sequence[JobRecord], config: DictConfig, sweep_dir: Path) -> None:
    """Log the table as a W&B run of its own, in the group of the jobs."""
    if config.logger.get("wandb") is None or config.wandb.mode == "disabled":
        return
    from hydra.utils import instantiate

    from hvp.artifacts.wandb.run import job
    from hvp.machine_paths import without_machine_paths
    from hvp.reporting.loggers import log_table

    name = sweep_dir.name
    run = instantiate(
        config.wandb, dir=str(sweep_dir), group=name, name=f"{name} overview", job_type="sweep"
    )
    winner = best_job(records, config.sweep.direction)
    rows = [{"best": record is winner, **_row(record)} for record in records]
    published = {"overrides": list(config.hydra.overrides.task), "rows": rows}
    published = without_machine_paths(published, Path(config.work_dir))
    with job({"overrides": published["overrides"]}):
        log_table(run, "sweep/overview", published["rows"])
