"""Curves against the horizon, as figures and as inline SVG."""

import io
import re

import matplotlib
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
)
from hvp.evaluation.results import Result
from hvp.evaluation.summary import METRICS

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


def horizon_figure(result: Result, metric: str, ink: str = "black") -> Figure:
    """One metric of every system against the predicted step, the trained horizon marked.

    Args:
        result: where the curves come from.
        metric: key into `hvp.evaluation.summary.METRICS`.
        ink: colour of text and axes.

    Returns:
        A figure with a transparent background; `savefig` writes it in any format.
    """
    figure = Figure(figsize=(5.4, 3.5), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    samples = result.protocol.n_samples
    for curve in result.curves:
        single = samples == 1 or curve.system in (COPY_LAST, ORACLE, RECONSTRUCTION)
        if curve.metric != metric or (single and curve.aggregate == BEST):
            continue
        label = curve.system
        if not single:
            label += f", mean of {samples}" if curve.aggregate == MEAN else f", best of {samples}"
        axes.plot(
            range(1, len(curve.values) + 1),
            curve.values,
            label=label,
            color=_COLOURS[curve.system],
            linestyle="-" if curve.aggregate == MEAN else (0, (4, 2)),
            linewidth=1.8,
            marker="o" if len(curve.values) == 1 else None,
        )
    for series in result.series:
        if series.metric == metric:
            axes.plot(
                (series.first + series.last) / 2,
                series.values,
                label=series.system,
                color=_COLOURS[series.system],
                linewidth=1.8,
                marker="o",
                markersize=3,
            )
    horizon, trained = result.protocol.horizon, result.protocol.trained_horizon
    axes.set_xlim(1, max(horizon, 2))
    if trained < horizon:
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
    """`horizon_figure` as an `<svg>` element for a page: it takes the page's text colour and width.

    It refers to nothing outside itself.
    """
    buffer = io.StringIO()
    # Text stays text (readable by screen readers, small); the salt keeps ids equal in every run and
    # different between the figures of one page.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": metric}):
        figure = horizon_figure(result, metric, ink=_INK)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", svg)
    title = METRICS[metric].title
    opening = f'<svg role="img" aria-label="{title} against the predicted step" viewBox='
    return re.sub(r"<svg [^>]*?viewBox=(\"[^\"]*\")[^>]*>", rf"{opening}\1>", svg, count=1)
