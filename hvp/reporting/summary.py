"""The compact table of an evaluation: the models beside their baselines, near, far and overall."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from hvp.evaluation.curves import (
    BEST,
    COPY_LAST,
    IMAGE_MODEL,
    MEAN,
    ORACLE,
    RECONSTRUCTION,
    STRUCTURE_MODEL,
    SVG_RGB,
)
from hvp.evaluation.results import Evaluation, Result


@dataclass(frozen=True)
class MetricStyle:
    """How a metric is shown to people."""

    title: str
    model: str
    """The system whose numbers stand under `model`."""
    decimals: int
    higher_is_better: bool | None = True
    """None where neither is."""

    def format(self, value: float, signed: bool = False) -> str:
        """The number at this metric's precision; `n/a` for NaN."""
        if math.isnan(value):
            return "n/a"
        return f"{value:{'+' if signed else ''}.{self.decimals}f}"


METRICS = {
    "miou": MetricStyle("mIoU", STRUCTURE_MODEL, 3),
    "pixel_accuracy": MetricStyle("pixel accuracy", STRUCTURE_MODEL, 3),
    "diversity": MetricStyle("diversity", STRUCTURE_MODEL, 3, None),
    "nll": MetricStyle("NLL in nats", STRUCTURE_MODEL, 3, False),
    "kl": MetricStyle("KL in nats", STRUCTURE_MODEL, 2, False),
    "fvd_labels": MetricStyle("FVD of labels", STRUCTURE_MODEL, 1, False),
    "sliding_fvd_labels": MetricStyle("sliding FVD of labels", STRUCTURE_MODEL, 1, False),
    "class_drift": MetricStyle("class drift", STRUCTURE_MODEL, 3, False),
    "boundary_drift": MetricStyle("boundary drift", STRUCTURE_MODEL, 3, False),
    "motion_drift": MetricStyle("motion drift", STRUCTURE_MODEL, 3, False),
    "psnr": MetricStyle("PSNR in dB", IMAGE_MODEL, 2),
    "ssim": MetricStyle("SSIM", IMAGE_MODEL, 3),
    "lpips": MetricStyle("LPIPS", IMAGE_MODEL, 3, False),
    "fvd": MetricStyle("FVD", IMAGE_MODEL, 1, False),
    "sliding_fvd": MetricStyle("sliding FVD", IMAGE_MODEL, 1, False),
    "fid": MetricStyle("FID", IMAGE_MODEL, 1, False),
}
"""All metrics, in the order of tables and figures."""

PERSISTENCE = (
    "sliding_fvd", "sliding_fvd_labels", "class_drift", "boundary_drift", "motion_drift",
)  # fmt: skip
"""The metrics that show whether quality lasts beyond the ground truth."""

SHORT = {
    ORACLE: "on true labels",
    RECONSTRUCTION: "posterior",
    SVG_RGB: "SVG-LP on RGB",
}
"""Baselines beside copy-last-frame, as column headings."""

_WINDOWS = ("near", "far", "all")


@dataclass(frozen=True)
class SummaryRow:
    """One metric over one range of steps; NaN where a system has no number."""

    metric: str
    """Key into `METRICS`."""
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
    """The other baselines that have a number, in the order of `SHORT`."""

    @property
    def difference(self) -> float:
        """Model minus copy-last-frame."""
        return self.model - self.copy_last

    @property
    def gain(self) -> float:
        """The difference, positive where the model is better; NaN where there is no better."""
        better = METRICS[self.metric].higher_is_better
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
        style = METRICS[self.metric]
        return [
            style.format(self.model),
            style.format(self.copy_last),
            style.format(self.difference, signed=True),
            *(style.format(self.others.get(system, math.nan)) for system in others),
        ]


def summarise(evaluation: Evaluation) -> list[SummaryRow]:
    """The summary's rows: metric by metric, mean before best-of-S, near before far before all."""
    rows: list[SummaryRow] = []
    for metric in METRICS:
        result = evaluation.find(metric)
        if result is not None:
            rows += _of_curves(result, metric)
            rows += _of_series(result, metric)
    return rows


def systems_of(rows: list[SummaryRow]) -> list[str]:
    """The baselines beside copy-last-frame that have a number in any row."""
    return [system for system in SHORT if any(system in row.others for row in rows)]


def _row(
    result: Result, metric: str, aggregate: str, window: str, steps: str, numbers: dict[str, float]
) -> SummaryRow:
    return SummaryRow(
        metric=metric,
        aggregate=aggregate,
        window=window,
        steps=steps,
        samples=result.protocol.n_samples,
        of_set=bool(result.series),
        model=numbers.get(METRICS[metric].model, math.nan),
        copy_last=numbers.get(COPY_LAST, math.nan),
        others={system: numbers[system] for system in SHORT if system in numbers},
    )


def _of_curves(result: Result, metric: str) -> Iterator[SummaryRow]:
    for aggregate in (MEAN, BEST) if result.protocol.n_samples > 1 else (MEAN,):
        curves = [c for c in result.curves if (c.metric, c.aggregate) == (metric, aggregate)]
        for window in result.windows() if curves else ():
            if window.name in _WINDOWS:
                numbers = {curve.system: curve.average(window) for curve in curves}
                yield _row(result, metric, aggregate, window.name, window.steps, numbers)


def _of_series(result: Result, metric: str) -> Iterator[SummaryRow]:
    """The first and the last point that the model has; one row where there is one point."""
    model = result.find_series(METRICS[metric].model, metric)
    ends = None if model is None else model.ends()
    if model is None or ends is None:
        return
    names = ("all",) if len(model.values) == 1 else ("first", "last")
    for name, point in zip(names, ends, strict=False):
        numbers = {
            series.system: float(series.values[point])
            for series in result.series
            if series.metric == metric
        }
        yield _row(result, metric, MEAN, name, f"{model.first[point]}-{model.last[point]}", numbers)


def summary_table(rows: list[SummaryRow]) -> Table:
    """The rows as a table for a terminal of 80 columns."""
    others = systems_of(rows)
    short = [SHORT[system].replace(" ", "\n") for system in others]
    table = Table(
        title="Prediction against copying the last context frame",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1 if len(others) < 2 else 0, 0, 0),
    )
    table.add_column("", no_wrap=True)
    table.add_column("predicted\nsteps", no_wrap=True)
    for heading in ("model", "copy\nlast", "model\n- copy", *short):
        table.add_column(heading, justify="right", no_wrap=True)
    for (metric, aggregate), group in groupby(rows, lambda r: (r.metric, r.aggregate_title)):
        members = list(group)
        # The name above what it is a mean of: beside each other they would push out the numbers.
        title = METRICS[metric].title.replace(" of ", "\nof ")
        names = [title, aggregate] + [""] * len(members)
        table.add_section()
        for name, row in zip(names, members, strict=False):
            model, copy_last, difference, *numbers = row.cells(others)
            style = "green" if row.gain > 0 else "red" if row.gain < 0 else ""
            steps, difference_text = f"{row.window} {row.steps}", Text(difference, style)
            table.add_row(name, steps, model, copy_last, difference_text, *numbers)
    return table
