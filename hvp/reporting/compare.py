"""Comparison page: finished evaluations side by side in one HTML file, no number computed anew."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hvp.errors import ConfigError
from hvp.evaluation.curves import MEAN
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.results import Evaluation
from hvp.files import write_text
from hvp.reporting.plots import Line, lines_svg
from hvp.reporting.report import page, plain
from hvp.reporting.summary import SummaryRow, summarise

_COLOURS = ("#3b82f6", "#d97706", "#10a37f", "#b45cd6", "#dc2626", "#0891b2", "#a16207", "#64748b")


@dataclass(frozen=True)
class Entry:
    """One of the compared evaluations."""

    name: str
    """What it is called on the page, for example its reference."""
    evaluation: Evaluation


def write_comparison(path: Path, title: str, entries: Sequence[Entry], command: str) -> None:
    """Write the page that shows the models of several evaluations side by side, atomically.

    Numbers are those of each evaluation's own model; where protocols differ the page says so.

    Args:
        path: file to write, `.html`.
        title: heading of the page.
        entries: what is compared, in the order of the columns.
        command: the exact command.

    Raises:
        ConfigError: fewer than two or too many evaluations, or two of one name.
    """
    names = [entry.name for entry in entries]
    if not 2 <= len(set(names)) == len(names) <= len(_COLOURS):
        raise ConfigError(
            f"evaluate.compare={names}: expected 2 to {len(_COLOURS)} different evaluations"
        )
    text = page(
        comparison={
            "title": title,
            "names": names,
            "groups": _groups(entries),
            "protocols": _protocols(entries),
            "figures": [
                figure for metric in _metrics(entries) if (figure := _figure(entries, metric))
            ],
            "command": command,
        },
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    write_text(path, text)


def _metrics(entries: Sequence[Entry]) -> list[MetricInfo]:
    """All metrics, each as the first evaluation that has it describes it.

    A metric that only a later evaluation has stands behind the one that precedes it there.
    """
    merged: list[MetricInfo] = []
    for entry in entries:
        place = 0
        for metric, _ in entry.evaluation.measured:
            names = [known.name for known in merged]
            if metric.name in names:
                place = names.index(metric.name) + 1
            else:
                merged.insert(place, metric)
                place += 1
    return merged


def _groups(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Per metric and aggregate the protocols, and rows: a window, a cell for every evaluation."""
    tables = [
        {(r.metric.name, r.aggregate, r.window): r for r in summarise(entry.evaluation)}
        for entry in entries
    ]
    order = {"near": 0, "first": 0, "far": 1, "last": 1, "all": 2}
    metrics = {metric.name: metric for metric in _metrics(entries)}
    places = {name: place for place, name in enumerate(metrics)}
    keys = {key for table in tables for key in table}
    groups: dict[str, dict[str, Any]] = {}
    for key in sorted(keys, key=lambda k: (places[k[0]], k[1] != MEAN, order[k[2]])):
        rows = [table.get(key) for table in tables]
        some = next(row for row in rows if row is not None)
        average = "" if some.of_set else ", mean of samples" if key[1] == MEAN else ", best sample"
        title = f"{metrics[key[0]].heading}{average}"
        results = [entry.evaluation.find(key[0]) for entry in entries]
        conditions = ["" if r is None else r.protocol.conditions() for r in results]
        named = [(e.name, c) for e, c in zip(entries, conditions, strict=True) if c]
        group = groups.setdefault(title, {"title": title, "protocols": named, "rows": []})
        steps = dict.fromkeys(row.steps for row in rows if row is not None)
        heading = f"{key[2]} ({next(iter(steps))})" if len(steps) == 1 else key[2]
        group["rows"].append((heading, _cells(metrics[key[0]], rows, conditions, len(steps) > 1)))
    return list(groups.values())


def _cells(
    metric: MetricInfo,
    rows: Sequence[SummaryRow | None],
    conditions: Sequence[str],
    with_steps: bool,
) -> list[dict[str, Any]]:
    """The model's number of every evaluation, its steps and protocol; the best one is marked."""
    values = [math.nan if row is None else row.model for row in rows]
    known = [value for value in values if not math.isnan(value)]
    best = None
    if len(set(map(metric.format, known))) > 1 and metric.higher_is_better is not None:
        best = max(known) if metric.higher_is_better else min(known)
    return [
        {
            "text": metric.format(value),
            "steps": row.steps if row is not None and with_steps else "",
            "protocol": protocol,
            "best": value == best,
        }
        for row, value, protocol in zip(rows, values, conditions, strict=True)
    ]


def _protocols(entries: Sequence[Entry]) -> list[tuple[str, list[str], bool]]:
    """Every field of the protocols, a column per evaluation, and whether the columns differ."""
    found = [
        [result.protocol.to_dict() for result in entry.evaluation] or [{}] for entry in entries
    ]
    names = dict.fromkeys(name for protocols in found for p in protocols for name in p)
    rows = []
    for name in names:
        cells = [
            ", ".join(dict.fromkeys(plain(p[name]) for p in protocols if name in p))
            for protocols in found
        ]
        rows.append((name.replace("_", " "), cells, len(set(cells)) > 1))
    return rows


def _figure(entries: Sequence[Entry], metric: MetricInfo) -> str | None:
    """The metric of every evaluation's model along the horizon; None where there is no curve."""
    lines: list[Line] = []
    for entry, colour in zip(entries, _COLOURS, strict=False):
        result = entry.evaluation.find(metric.name)
        if result is None:
            continue
        curve = result.curve(metric.model, metric.name, MEAN)
        series = result.find_series(metric.model, metric.name)
        if curve is not None:
            lines.append(Line.of_curve(curve, entry.name, colour))
        elif series is not None and len(series.values) > 1:
            lines.append(Line.of_series(series, entry.name, colour))
    return lines_svg(lines, metric, trained=None) if lines else None
