"""Curves against the horizon, as figures and as inline SVG."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hvp.evaluation.curves import (
    BEST,
    COPY_LAST,
    IMAGE_MODEL,
    MEAN,
    ORACLE,
    RECONSTRUCTION,
    STRUCTURE_MODEL,
    SVG_RGB,
    Curve,
    Series,
)
from hvp.evaluation.results import Result
from hvp.reporting.summary import METRICS

# Colours that stand out on white and on near-black.
_COLOURS = {
    STRUCTURE_MODEL: "#3b82f6",
    IMAGE_MODEL: "#3b82f6",
    COPY_LAST: "#d97706",
    ORACLE: "#10a37f",
    RECONSTRUCTION: "#10a37f",
    SVG_RGB: "#b45cd6",
}
_INK = "#010203"  # stands for the page's text colour until `svg_text` puts `currentColor` there


@dataclass(frozen=True)
class Line:
    """One line of a figure."""

    steps: np.ndarray
    """Predicted steps, counted from 1."""
    values: np.ndarray
    label: str
    colour: str
    end: int
    """The last step that any of the values is made from."""
    dashed: bool = False
    points: bool = False
    """Whether each value gets a marker."""

    @classmethod
    def of_curve(cls, curve: Curve, label: str, colour: str) -> "Line":
        """A value per step; the best of S is dashed."""
        end = curve.measured
        dashed, points = curve.aggregate == BEST, end == 1
        return cls(np.arange(1, end + 1), curve.values[:end], label, colour, end, dashed, points)

    @classmethod
    def of_series(cls, series: Series, label: str, colour: str) -> "Line":
        """A marker in the middle of the frames that each value is made from."""
        middles, end = (series.first + series.last) / 2, int(series.last[-1])
        return cls(middles, series.values, label, colour, end, points=True)


def horizon_figure(result: Result, metric: str, ink: str = "black") -> Figure:
    """One metric of every system against the predicted step, the trained horizon marked.

    Args:
        result: where the curves come from.
        metric: key into `hvp.reporting.summary.METRICS`.
        ink: colour of text and axes.

    Returns:
        A figure with a transparent background; `savefig` writes it in any format.
    """
    return lines_figure(result_lines(result, metric), metric, result.protocol.trained_horizon, ink)


def result_lines(result: Result, metric: str) -> list[Line]:
    """A line for every system that has the metric, and one for its best of S."""
    lines = []
    samples = result.protocol.n_samples
    for curve in result.curves:
        single = samples == 1 or curve.system in (COPY_LAST, ORACLE, RECONSTRUCTION)
        if curve.metric != metric or (single and curve.aggregate == BEST):
            continue
        label = curve.system
        if not single:
            label += f", mean of {samples}" if curve.aggregate == MEAN else f", best of {samples}"
        lines.append(Line.of_curve(curve, label, _COLOURS[curve.system]))
    lines += [
        Line.of_series(series, series.system, _COLOURS[series.system])
        for series in result.series
        if series.metric == metric
    ]
    return lines


def lines_figure(
    lines: Sequence[Line], metric: str, trained: int | None, ink: str = "black"
) -> Figure:
    """Lines against the predicted step, to the end of the longest.

    Args:
        lines: what is drawn.
        metric: key into `hvp.reporting.summary.METRICS`, for the title.
        trained: last step that training went through, marked; None where it is not one.
        ink: colour of text and axes.
    """
    figure = Figure(figsize=(5.4, 3.5), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    for line in lines:
        axes.plot(
            line.steps,
            line.values,
            label=line.label,
            color=line.colour,
            linestyle=(0, (4, 2)) if line.dashed else "-",
            linewidth=1.8,
            marker="o" if line.points else None,
            markersize=3,
        )
    horizon = max((line.end for line in lines), default=1)
    axes.set_xlim(1, max(horizon, 2))
    if trained is not None and trained < horizon:
        axes.axvline(trained, color=ink, linewidth=1, linestyle=":")
        share = trained / horizon
        alignment = "left" if share < 0.25 else "right" if share > 0.75 else "center"
        axes.annotate(
            "trained horizon",
            xy=(trained, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha=alignment,
            va="bottom",
            color=ink,
            fontsize=9,
        )
    axes.set_xlabel("predicted step", color=ink)
    title = METRICS[metric].title
    axes.set_title(title, color=ink, loc="left", fontsize=12, fontweight="bold", pad=18)
    axes.tick_params(colors=ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=ink, alpha=0.15)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(ink)
    figure.legend(
        loc="outside lower left", ncols=2, frameon=False, labelcolor=ink, fontsize=9, borderpad=0
    )
    return figure


def horizon_svg(result: Result, metric: str) -> str:
    """`horizon_figure` as an `<svg>` element for a page; see `lines_svg`."""
    return lines_svg(result_lines(result, metric), metric, result.protocol.trained_horizon)


def lines_svg(lines: Sequence[Line], metric: str, trained: int | None) -> str:
    """`lines_figure` as an `<svg>` element for a page: it takes the page's text colour and width.

    It refers to nothing outside itself.
    """
    buffer = io.StringIO()
    # Text stays text (readable by screen readers, small); the salt keeps ids equal in every run and
    # different between the figures of one page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": metric}):
        figure = lines_figure(lines, metric, trained, ink=_INK)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", svg)
    title = METRICS[metric].title
    opening = f'<svg role="img" aria-label="{title} against the predicted step" viewBox='
    return re.sub(r"<svg [^>]*?viewBox=(\"[^\"]*\")[^>]*>", rf"{opening}\1>", svg, count=1)
