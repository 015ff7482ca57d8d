"""The compact table of an evaluation: the models beside their baselines, near, far and overall."""

import math
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from hvp.evaluation.results import (
    BEST,
    COPY_LAST,
    IMAGE_MODEL,
    MEAN,
    ORACLE,
    STRUCTURE_MODEL,
    Evaluation,
)


@dataclass(frozen=True)
class MetricStyle:
    """How a metric is shown to people."""

    title: str
    model: str
    """The system whose numbers stand under `model`."""
    decimals: int

    def format(self, value: float, signed: bool = False) -> str:
        """The number at this metric's precision; `n/a` for NaN."""
        if math.isnan(value):
            return "n/a"
        return f"{value:{'+' if signed else ''}.{self.decimals}f}"


METRICS = {
    "miou": MetricStyle("mIoU", STRUCTURE_MODEL, 3),
    "pixel_accuracy": MetricStyle("pixel accuracy", STRUCTURE_MODEL, 3),
    "psnr": MetricStyle("PSNR in dB", IMAGE_MODEL, 2),
    "ssim": MetricStyle("SSIM", IMAGE_MODEL, 3),
}
"""All metrics, in the order of tables and figures."""

_WINDOWS = ("near", "far", "all")


@dataclass(frozen=True)
class SummaryRow:
    """One metric over one window; NaN where a system has no number."""

    metric: str
    """Key into `METRICS`."""
    aggregate: str
    """`MEAN` or `BEST`."""
    window: str
    """`near`, `far` or `all`."""
    steps: str
    """The window's predicted steps, counted from 1: `1-7`."""
    samples: int
    """S, the samples per clip."""
    model: float
    copy_last: float
    difference: float
    """Model minus copy-last-frame; positive is better for every metric here."""
    oracle: float
    """Image model on ground-truth labels; NaN for label metrics."""

    @property
    def aggregate_title(self) -> str:
        """`mean of 10` or `best of 10`."""
        if self.samples == 1:
            return "one sample"
        return f"{'mean' if self.aggregate == MEAN else 'best'} of {self.samples}"

    def cells(self) -> list[str]:
        """Model, copy-last, difference and oracle as text."""
        style = METRICS[self.metric]
        return [
            style.format(self.model),
            style.format(self.copy_last),
            style.format(self.difference, signed=True),
            style.format(self.oracle),
        ]


def summarise(evaluation: Evaluation) -> list[SummaryRow]:
    """The summary's rows: metric by metric, mean before best-of-S, near before far before all."""
    rows = []
    for metric, style in METRICS.items():
        result = evaluation.find(metric)
        if result is None:
            continue
        samples = result.protocol.n_samples
        for aggregate in (MEAN, BEST) if samples > 1 else (MEAN,):
            for window in result.windows():
                if window.name not in _WINDOWS:
                    continue
                model, copy_last, oracle = (
                    math.nan if curve is None else curve.average(window)
                    for curve in (
                        result.curve(system, metric, aggregate)
                        for system in (style.model, COPY_LAST, ORACLE)
                    )
                )
                rows.append(
                    SummaryRow(
                        metric=metric,
                        aggregate=aggregate,
                        window=window.name,
                        steps=window.steps,
                        samples=samples,
                        model=model,
                        copy_last=copy_last,
                        difference=model - copy_last,
                        oracle=oracle,
                    )
                )
    return rows


def summary_table(rows: list[SummaryRow]) -> Table:
    """The rows as a table for a terminal of 80 columns."""
    table = Table(
        title="Prediction against copying the last context frame",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    table.add_column("predicted\nsteps", no_wrap=True)
    for heading in ("model", "copy\nlast", "difference", "on true\nlabels"):
        table.add_column(heading, justify="right", no_wrap=True)
    previous = ""
    for row in rows:
        group = f"{METRICS[row.metric].title}, {row.aggregate_title}"
        if previous not in ("", group):
            table.add_section()
        model, copy_last, difference, oracle = row.cells()
        style = "green" if row.difference > 0 else "red" if row.difference < 0 else ""
        table.add_row(
            group if group != previous else "",
            f"{row.window} {row.steps}",
            model,
            copy_last,
            Text(difference, style),
            oracle,
        )
        previous = group
    return table
