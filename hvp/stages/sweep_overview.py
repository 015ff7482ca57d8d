"""The table of a sweep's jobs: in the terminal, as CSV in the sweep's directory, and at W&B."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from hvp.files import atomic_path
from hvp.stages.sweep_jobs import JobRecord, read_records

OVERVIEW_FILE = "overview.csv"


class SweepOverview(Callback):
    """Hydra callback: shows the table when all jobs have ended; a failed job fails the sweep."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show, write and log the table."""
        sweep_dir = Path(config.hydra.sweep.dir)
        records = read_records(sweep_dir)
        if not records:
            return
        write_csv(sweep_dir)
        _show(records, config.sweep.direction, sweep_dir)
        try:
            _log(records, config, sweep_dir)
        finally:  # whatever W&B does
            failed = [record for record in records if record.state == "failed"]
            if failed:
                sys.exit(
                    f"error: {len(failed)} of {len(records)} jobs failed, the first one with: "
                    f"{failed[0].error}. Start the same sweep again to repeat those alone"
                )


def write_csv(sweep_dir: Path) -> None:
    """Write `overview.csv`: one row per job that was started, with all it has."""
    rows = [_row(record) for record in read_records(sweep_dir)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.sort(key=_LAST.__contains__)
    with (
        atomic_path(sweep_dir / OVERVIEW_FILE) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


_LAST = ("seconds", "output_dir", "error")


def _row(record: JobRecord) -> dict[str, Any]:
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


def varied(records: Sequence[JobRecord]) -> list[str]:
    """The overridden keys that tell the jobs apart; all of them where there is one job."""
    overrides = [_overrides(record) for record in records]
    keys = dict.fromkeys(key for job in overrides for key in job)
    return [k for k in keys if len(records) == 1 or len({job.get(k) for job in overrides}) > 1]


def best(records: Sequence[JobRecord], direction: str) -> JobRecord | None:
    """The finished job with the best value, if any."""
    ranked = [r for r in records if r.state == "finished" and r.value is not None]
    sign = 1.0 if direction == "minimize" else -1.0
    return min(ranked, key=lambda record: sign * (record.value or 0.0), default=None)


def _show(records: Sequence[JobRecord], direction: str, sweep_dir: Path) -> None:
    from rich.table import Table

    from hvp.log import console, say

    keys, winner = varied(records), best(records, direction)
    metrics = list(dict.fromkeys(r.metric for r in records if r.metric))
    others = dict.fromkeys(m for r in records for m in r.metrics if m.startswith("val/"))
    metrics += [name for name in others if name not in metrics]
    table = Table(title=f"sweep {sweep_dir}", title_justify="left")
    for column in ("job", "state", *keys, *metrics, "minutes"):
        table.add_column(column, justify="left" if column in ("state", *keys) else "right")
    for record in records:
        row = _row(record)
        cells = [_shown(row.get(name)) for name in ("job", "state", *keys, *metrics)]
        style = "bold green" if record is winner else None
        table.add_row(*cells, f"{record.seconds / 60:.1f}", style=style)
    console.print(table)
    for record in records:
        if record.error:
            say(f"job {record.number}: {record.error}", style="red")
    if winner is not None:
        say(f"best     job {winner.number}, {winner.metric} {winner.value:.6g}")
    say(f"table    {sweep_dir / OVERVIEW_FILE}")


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _log(records: Sequence[JobRecord], config: DictConfig, sweep_dir: Path) -> None:
    """The table as a W&B run of its own, in the group of the jobs."""
    if config.logger.get("wandb") is None or config.wandb.mode == "disabled":
        return
    from hydra.utils import instantiate

    from hvp.artifacts.wandb_run import job
    from hvp.stages.loggers import log_table

    name = sweep_dir.name
    run = instantiate(
        config.wandb, dir=str(sweep_dir), group=name, name=f"{name} overview", job_type="sweep"
    )
    winner = best(records, config.sweep.direction)
    rows = [{"best": record is winner, **_row(record)} for record in records]
    with job({"overrides": list(config.hydra.overrides.task)}):
        log_table(run, "sweep/overview", rows)
