"""Plots of metrics against the horizon, as Matplotlib figures and as inline SVG."""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hvp.evaluation.curves import BEST, MEAN, Curve, Series
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.results import Result
from hvp.evaluation.systems import (
    COPY_LAST,
    IMAGE_MODEL,
    ORACLE,
    RECONSTRUCTION,
    STRUCTURE_MODEL,
    SVG_RGB,
)

# Colours that stand out on white and on near-black.
_COLOURS = {
    STRUCTURE_MODEL: "#3b82f6",
    IMAGE_MODEL: "#3b82f6",
    COPY_LAST: "#d97706",
    ORACLE: "#10a37f",
    RECONSTRUCTION: "#10a37f",
    SVG_RGB: "#b45cd6",
}
_OTHER_COLOURS = ("#dc2626", "#0891b2", "#a16207", "#64748b")  # of baselines that measures add
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


def horizon_figure(result: Result, metric: MetricInfo, ink: str = "black") -> Figure:
    """One metric of every system against the predicted step, the trained horizon marked.

    Args:
        result: where the curves come from.
        metric: which of its metrics.
        ink: colour of text and axes.

    Returns:
        A figure with a transparent background; `savefig` writes it in any format.
    """
    lines = result_lines(result, metric.name)
    return lines_figure(lines, metric.heading, result.protocol.trained_horizon, ink)


def result_lines(result: Result, metric: str) -> list[Line]:
    """A line for every system that has the metric of that name, and one for its best of S."""
    lines = []
    samples = result.protocol.n_samples
    curves = [curve for curve in result.curves if curve.metric == metric]
    series = [series for series in result.series if series.metric == metric]
    colours = _colours(dict.fromkeys([*(c.system for c in curves), *(s.system for s in series)]))
    for curve in curves:
        single = samples == 1 or curve.system in (COPY_LAST, ORACLE, RECONSTRUCTION)
        if single and curve.aggregate == BEST:
            continue
        label = curve.system
        if not single:
            label += f", mean of {samples}" if curve.aggregate == MEAN else f", best of {samples}"
        lines.append(Line.of_curve(curve, label, colours[curve.system]))
    lines += [Line.of_series(one, one.system, colours[one.system]) for one in series]
    return lines


def _colours(systems: Iterable[str]) -> dict[str, str]:
    others = cycle(_OTHER_COLOURS)
    return {system: _COLOURS.get(system) or next(others) for system in systems}


def lines_figure(
    lines: Sequence[Line], title: str, trained: int | None, ink: str = "black"
) -> Figure:
    """Lines against the predicted step, to the end of the longest.

    Args:
        lines: what is drawn.
        title: of the figure: the metric and its unit.
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


def horizon_svg(result: Result, metric: MetricInfo) -> str:
    """`horizon_figure` as an `<svg>` element for a page; see `lines_svg`."""
    return lines_svg(result_lines(result, metric.name), metric, result.protocol.trained_horizon)


def lines_svg(lines: Sequence[Line], metric: MetricInfo, trained: int | None) -> str:
    """`lines_figure` as an `<svg>` element for a page: it takes the page's text colour and width.

    It refers to nothing outside itself.
    """
    buffer = io.StringIO()
    # Text stays text (readable by screen readers, small); the salt keeps ids equal in every run and
    # different between the figures of one page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": metric.name}):
        figure = lines_figure(lines, metric.heading, trained, ink=_INK)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", svg)
    label = escape(metric.heading, quote=True)
    opening = f'<svg role="img" aria-label="{label} against the predicted step" viewBox='
    return re.sub(
        r"<svg [^>]*?viewBox=(\"[^\"]*\")[^>]*>", lambda m: f"{opening}{m[1]}>", svg, count=1
    )
