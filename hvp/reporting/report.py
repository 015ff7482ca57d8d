"""HTML report of an evaluation: one self-contained file."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from hvp.evaluation.metric import Kind
from hvp.evaluation.results import Evaluation
from hvp.files import write_text
from hvp.labels import LabelSpace
from hvp.reporting.panels import PHASE_COLOURS, ClipVideo
from hvp.reporting.plots import horizon_svg
from hvp.reporting.summary import SummaryRow, heading, summarise, systems_of


@dataclass(frozen=True)
class Ancestor:
    """One artifact that the evaluation rests on."""

    role: str
    """What it was used for: `structure checkpoint`, `label predictions`, ..."""
    reference: str
    """Name and version: `structure-kitti:v3`."""
    digest: str = ""
    """SHA-256 of its manifest."""


@dataclass(frozen=True)
class Report:
    """Everything the page shows."""

    title: str
    evaluation: Evaluation
    space: LabelSpace
    """Classes and colours of the label maps."""
    videos: Sequence[ClipVideo]
    """The clips that are shown."""
    command: str
    """The exact command that made the evaluation."""
    config: str
    """The full resolved config, as YAML."""
    lineage: Sequence[Ancestor] = ()
    """The artifacts it rests on, oldest first."""


def write_report(path: Path, report: Report) -> None:
    """Write the report as one self-contained HTML file, atomically.

    Videos are embedded, figures are inline SVG, nothing is loaded from anywhere.

    Args:
        path: file to write, `.html`.
        report: what to show.
    """
    evaluation = report.evaluation
    text = page(
        comparison=None,
        report=report,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        sentences=list(dict.fromkeys(result.protocol.describe() for result in evaluation)),
        tables=_tables(evaluation),
        explanations=_explanations(evaluation),
        ranking=evaluation.ranking,
        figures=_figures(evaluation, "curve"),
        persistence=_figures(evaluation, "series"),
        phases={name: _hex(colour) for name, colour in PHASE_COLOURS.items()},
        videos=[(video, _data_uri(video.path)) for video in report.videos],
        class_tables=_class_tables(report),
        protocol_table=_protocol_table(evaluation),
    )
    write_text(path, text)


def page(**values: Any) -> str:
    """The page's template filled in: a report, or a comparison of several (the other is None)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(**values)


def _figures(evaluation: Evaluation, kind: Kind) -> list[tuple[str, str]]:
    """The SVG of each metric of that kind, and its protocol."""
    return [
        (horizon_svg(result, metric), result.protocol.conditions())
        for metric, result in evaluation.measured
        if metric.kind == kind
    ]


def _explanations(evaluation: Evaluation) -> list[str]:
    """How to read the metrics that there are numbers of."""
    metrics = [metric for metric, _ in evaluation.measured]
    lower = [metric.title for metric in metrics if metric.higher_is_better is False]
    found = list(dict.fromkeys(metric.explanation for metric in metrics if metric.explanation))
    return found + ([f"Lower is better: {', '.join(lower)}."] if lower else [])


def _tables(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The summary, one table for label maps and one for RGB, each in groups of metric and mean."""
    rows_of: dict[str, list[SummaryRow]] = {}
    for row in summarise(evaluation):
        rows_of.setdefault(row.metric.model, []).append(row)
    tables = []
    for model, rows in rows_of.items():
        others = systems_of(rows)
        groups: dict[str, dict[str, Any]] = {}
        for row in rows:
            title = f"{row.metric.heading}, {row.aggregate_title}"
            result = evaluation.find(row.metric.name)
            assert result is not None
            group = groups.setdefault(title, {"protocol": result.protocol.conditions(), "rows": []})
            group["rows"].append((row, row.cells(others)))
        headings = [heading(system) for system in others]
        tables.append({"title": model, "groups": groups, "others": headings})
    return tables


def _class_tables(report: Report) -> list[dict[str, Any]]:
    """Each metric of single classes: its number for every class that occurs and every system."""
    tables = []
    for result in report.evaluation:
        for metric in result.metrics:
            of_system = result.class_scores.get(metric.name)
            if not of_system:
                continue
            columns = list(of_system.values())
            rows = [
                (name, _hex(colour), [metric.format(column[name]) for column in columns])
                for name, colour in zip(report.space.classes, report.space.palette, strict=True)
                if not all(math.isnan(column[name]) for column in columns)
            ]
            tables.append(
                {
                    "title": metric.heading,
                    "explanation": metric.explanation,
                    "systems": list(of_system),
                    "protocol": result.protocol.conditions(),
                    "rows": rows,
                }
            )
    return tables


def _protocol_table(evaluation: Evaluation) -> dict[str, Any]:
    """Every field of every result's protocol, a column for each result."""
    protocols = [result.protocol.to_dict() for result in evaluation]
    return {
        "metrics": [[info.heading for info in result.measured] for result in evaluation],
        "rows": [
            (name.replace("_", " "), [plain(protocol[name]) for protocol in protocols])
            for name in protocols[0]
        ],
    }


def plain(value: Any) -> str:
    """A protocol value for people."""
    if isinstance(value, list):
        return ", ".join(value) or "none recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _data_uri(video: Path) -> str:
    """An MP4 file as it is embedded in the page."""
    return f"data:video/mp4;base64,{base64.b64encode(video.read_bytes()).decode('ascii')}"
