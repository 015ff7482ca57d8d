"""Logging of an evaluation: scalars to all loggers; curves, confusion, rows and videos to some."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pytorch_lightning.loggers import Logger

from hvp.evaluation.curves import MEAN
from hvp.evaluation.results import Evaluation, Result, Row
from hvp.labels import LabelSpace
from hvp.reporting.loggers import log_confusion, log_curves, log_rows, log_scalars
from hvp.reporting.panels import ClipVideo
from hvp.reporting.plots import result_lines


def log_evaluation(
    loggers: Sequence[Logger],
    evaluation: Evaluation,
    space: LabelSpace,
    videos: Sequence[ClipVideo],
) -> None:
    """Log an evaluation.

    Args:
        loggers: where to, from `build_loggers`.
        evaluation: the results.
        space: classes of the label maps.
        videos: the clips to show.
    """
    for result in evaluation:
        log_scalars(loggers, _scalars(result), 0)
        for metric in result.measured:
            lines = result_lines(result, metric.name)
            trained = result.protocol.trained_horizon
            log_curves(loggers, horizon_figure_name(metric.name), metric.heading, lines, trained, 0)
        for system, confusion in result.confusion.items():
            log_confusion(loggers, confusion_figure_name(system), confusion, space.classes, 0)
    log_rows(loggers, "evaluation/results", _rows(evaluation), 0)
    shown = [{"clip": v.name, f"{v.titles[0]} | samples": v.path} for v in videos]
    log_rows(loggers, "evaluation/samples", shown, 0)
    for logger in loggers:
        logger.save()


def horizon_figure_name(metric: str) -> str:
    """Under which name the curves of a metric are logged."""
    return f"evaluation/horizon/{metric}"


def confusion_figure_name(system: str) -> str:
    """Under which name the confusion matrix of a system is logged."""
    return f"evaluation/confusion/{_key(system)}"


def _scalars(result: Result) -> dict[str, float]:
    """Every curve averaged over each window of steps; of a series its first and its last point."""
    scalars = {
        f"evaluation/{row.metric}/{_key(row.system)}/{_key(row.aggregate)}/{row.window}": row.value
        for row in result.window_rows()
        if not row.class_name
    }
    for series in result.series:
        names = ("all",) if len(series.values) == 1 else ("first", "last")
        for name, point in zip(names, series.ends() or (), strict=False):
            key = f"evaluation/{series.metric}/{_key(series.system)}/{MEAN}/{name}"
            scalars[key] = float(series.values[point])
    return scalars


def _rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Every number but those of single steps, each with its protocol."""

    def with_protocol(row: Row, result: Result) -> dict[str, Any]:
        value = None if math.isnan(row.value) else row.value
        return {**asdict(row), "value": value, **result.protocol.to_row()}

    return [
        with_protocol(row, result)
        for result in evaluation
        for row in (*result.window_rows(), *result.point_rows())
    ]


def _key(text: str) -> str:
    return text.replace(" ", "_")
