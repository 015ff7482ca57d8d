"""Summary table of an evaluation: models and baselines, near, far and overall."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from hvp.evaluation.curves import BEST, MEAN
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.results import Evaluation, Result
from hvp.evaluation.systems import COPY_LAST, SHORT
from hvp.tables import cell

_WINDOWS = ("near", "far", "all")


@dataclass(frozen=True)
class SummaryRow:
    """One metric over one range of steps; NaN where a system has no number."""

    metric: MetricInfo
    aggregate: str
    """`MEAN` or `BEST`; `MEAN` for metrics of sets of frames."""
    window: str
    """`near`, `far` or `all`; for a curve of points `first` or `last`."""
    steps: str
    """The window's predicted steps, counted from 1: `1-7`."""
    samples: int
    """S, the samples per clip."""
    of_set: bool
    """Whether the metric compares sets of frames, without a mean over samples."""
    model: float
    copy_last: float
    others: Mapping[str, float]
    """The other baselines that have a number."""

    @property
    def difference(self) -> float:
        """Model minus copy-last-frame."""
        return self.model - self.copy_last

    @property
    def gain(self) -> float:
        """The difference, positive where the model is better; NaN where there is no better."""
        better = self.metric.higher_is_better
        return math.nan if better is None else self.difference if better else -self.difference

    @property
    def aggregate_title(self) -> str:
        """`mean of 10`, `best of 10`, or `all samples` of a metric of sets."""
        if self.of_set:
            return "all samples"
        if self.samples == 1:
            return "one sample"
        return f"{'mean' if self.aggregate == MEAN else 'best'} of {self.samples}"

    def cells(self, others: list[str]) -> list[str]:
        """Model, copy-last, difference and the named other systems as text."""
        show = self.metric.format
        return [
            show(self.model),
            show(self.copy_last),
            show(self.difference, signed=True),
            *(show(self.others.get(system, math.nan)) for system in others),
        ]


def summarise(evaluation: Evaluation) -> list[SummaryRow]:
    """The summary's rows: metric by metric, mean before best-of-S, near before far before all."""
    rows: list[SummaryRow] = []
    for metric, result in evaluation.measured:
        rows += _of_curves(result, metric)
        rows += _of_series(result, metric)
    return rows


def systems_of(rows: Sequence[SummaryRow]) -> list[str]:
    """The baselines other than copy-last-frame that have a number in any row, in a fixed order."""
    found = dict.fromkeys(system for row in rows for system in row.others)
    return [*(s for s in SHORT if s in found), *(s for s in found if s not in SHORT)]


def heading(system: str) -> str:
    """Column heading of a baseline."""
    return SHORT.get(system, system)


def _row(
    result: Result,
    metric: MetricInfo,
    aggregate: str,
    window: str,
    steps: str,
    numbers: dict[str, float],
) -> SummaryRow:
    return SummaryRow(
        metric=metric,
        aggregate=aggregate,
        window=window,
        steps=steps,
        samples=result.protocol.n_samples,
        of_set=metric.kind != "curve",
        model=numbers.pop(metric.model, math.nan),
        copy_last=numbers.pop(COPY_LAST, math.nan),
        others=numbers,
    )


def _of_curves(result: Result, metric: MetricInfo) -> Iterator[SummaryRow]:
    for aggregate in (MEAN, BEST) if result.protocol.n_samples > 1 else (MEAN,):
        curves = [c for c in result.curves if (c.metric, c.aggregate) == (metric.name, aggregate)]
        for window in result.windows() if curves else ():
            if window.name in _WINDOWS:
                numbers = {curve.system: curve.average(window) for curve in curves}
                yield _row(result, metric, aggregate, window.name, window.steps, numbers)


def _of_series(result: Result, metric: MetricInfo) -> Iterator[SummaryRow]:
    """The first and the last point that the model has; one row where there is one point."""
    model = result.find_series(metric.model, metric.name)
    ends = None if model is None else model.ends()
    if model is None or ends is None:
        return
    names = ("all",) if len(model.values) == 1 else ("first", "last")
    for name, point in zip(names, ends, strict=False):
        numbers = {
            series.system: float(series.values[point])
            for series in result.series
            if series.metric == metric.name
        }
        yield _row(result, metric, MEAN, name, f"{model.first[point]}-{model.last[point]}", numbers)


def summary_table(rows: list[SummaryRow]) -> Table:
    """The rows as a table for a terminal of 80 columns."""
    others = systems_of(rows)
    short = [heading(system).replace(" ", "\n") for system in others]
    table = Table(
        title="Prediction against copying the last context frame",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1 if len(others) < 2 else 0, 0, 0),
    )
    table.add_column("", no_wrap=True)
    table.add_column("predicted\nsteps", no_wrap=True)
    for column in ("model", "copy\nlast", "model\n- copy", *short):
        table.add_column(cell(column), justify="right", no_wrap=True)
    for (metric, aggregate), group in groupby(rows, lambda r: (r.metric, r.aggregate_title)):
        members = list(group)
        # The name above what it is a mean of: on one line they would push out the numbers.
        title = metric.heading.replace(" of ", "\nof ")
        names = [title, aggregate] + [""] * len(members)
        table.add_section()
        for name, row in zip(names, members, strict=False):
            model, copy_last, difference, *numbers = row.cells(others)
            style = "green" if row.gain > 0 else "red" if row.gain < 0 else ""
            steps, difference_text = f"{row.window} {row.steps}", Text(difference, style)
            table.add_row(cell(name), cell(steps), model, copy_last, difference_text, *numbers)
    return table
