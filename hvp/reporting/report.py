"""The report of an evaluation: one HTML file that needs nothing beside it."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2

from hvp.evaluation.results import Evaluation, Result
from hvp.files import write_text
from hvp.labels import LabelSpace
from hvp.reporting.panels import PHASE_COLOURS, ClipPanel, shown_every, write_panel
from hvp.reporting.plots import horizon_svg
from hvp.reporting.summary import METRICS, PERSISTENCE, SHORT, SummaryRow, summarise, systems_of


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
    panels: Sequence[ClipPanel]
    """The clips shown as videos."""
    command: str
    """The exact command that made the evaluation."""
    config: str
    """The full resolved config, as YAML."""
    lineage: Sequence[Ancestor] = ()
    """The artifacts it rests on, oldest first."""
    fps: float = 10.0
    """Frames per second of the videos."""
    most_frames: int | None = None
    """Videos of more frames are shown by every k-th of them; None shows all frames."""


def write_report(path: Path, report: Report) -> None:
    """Write the report as one self-contained HTML file, atomically.

    Videos are embedded, figures are inline SVG, nothing is loaded from anywhere.

    Args:
        path: file to write, `.html`.
        report: what to show; the streams of its panels are read once.

    Raises:
        DataError: a panel has no frames.
    """
    evaluation = report.evaluation
    text = page(
        comparison=None,
        report=report,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        sentences=list(dict.fromkeys(result.protocol.describe() for result in evaluation)),
        tables=_tables(evaluation),
        figures=_figures(evaluation, lambda metric: metric not in PERSISTENCE),
        persistence=_figures(evaluation, lambda metric: metric in PERSISTENCE),
        phases={name: _hex(colour) for name, colour in PHASE_COLOURS.items()},
        videos=[_video(panel, report) for panel in report.panels],
        class_table=_class_table(report),
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


def _figures(evaluation: Evaluation, wanted: Callable[[str], bool]) -> list[tuple[str, str]]:
    """The SVG of each wanted metric that makes a curve, and its protocol."""
    return [
        (horizon_svg(result, metric), result.protocol.conditions())
        for metric in METRICS
        if wanted(metric)
        and (result := evaluation.find(metric)) is not None
        and not _is_single(result, metric)
    ]


def _is_single(result: Result, metric: str) -> bool:
    """Whether a metric is one number for the whole roll-out, which makes no curve."""
    return any(s.metric == metric and metric.startswith(("fvd", "fid")) for s in result.series)


def _tables(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The summary, one table for label maps and one for RGB, each in groups of metric and mean."""
    rows_of: dict[str, list[SummaryRow]] = {}
    for row in summarise(evaluation):
        rows_of.setdefault(METRICS[row.metric].model, []).append(row)
    tables = []
    for model, rows in rows_of.items():
        others = systems_of(rows)
        groups: dict[str, dict[str, Any]] = {}
        for row in rows:
            title = f"{METRICS[row.metric].title}, {row.aggregate_title}"
            result = evaluation.find(row.metric)
            assert result is not None
            group = groups.setdefault(title, {"protocol": result.protocol.conditions(), "rows": []})
            group["rows"].append((row, row.cells(others)))
        headings = [SHORT[system] for system in others]
        tables.append({"title": model, "groups": groups, "others": headings})
    return tables


def _class_table(report: Report) -> dict[str, Any] | None:
    """IoU of each class that occurs, for each system; None where there are no label maps."""
    result = next((result for result in report.evaluation if result.class_iou), None)
    if result is None:
        return None
    columns = list(result.class_iou.values())
    return {
        "systems": list(result.class_iou),
        "protocol": result.protocol.conditions(),
        "rows": [
            (name, _hex(colour), [METRICS["miou"].format(column[name]) for column in columns])
            for name, colour in zip(report.space.classes, report.space.palette, strict=True)
            if not all(math.isnan(column[name]) for column in columns)
        ],
    }


def _protocol_table(evaluation: Evaluation) -> dict[str, Any]:
    """Every field of every result's protocol, a column for each result."""
    protocols = [result.protocol.to_dict() for result in evaluation]
    return {
        "metrics": [[METRICS[name].title for name in result.metrics] for result in evaluation],
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


def _video(panel: ClipPanel, report: Report) -> dict[str, Any]:
    """The panel's MP4 as a data URI, and the shape of its picture."""
    protocol = report.evaluation.results[0].protocol
    with TemporaryDirectory(prefix="hvp-report-") as folder:
        path = Path(folder) / "panel.mp4"
        height, width = write_panel(
            path,
            panel,
            report.space,
            context=protocol.context,
            trained=protocol.trained_horizon,
            horizon=protocol.horizon,
            fps=report.fps,
            most_frames=report.most_frames,
        )
        content = base64.b64encode(path.read_bytes()).decode("ascii")
    return {
        "panel": panel,
        "uri": f"data:video/mp4;base64,{content}",
        "ratio": f"{height / width:.4f}",
        "every": shown_every(protocol.context + protocol.horizon, report.most_frames),
    }
