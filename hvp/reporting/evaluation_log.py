"""What the evaluation tells the loggers: scalars; curves, confusion and rows where they show."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import WandbLogger

from hvp.evaluation.curves import MEAN
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Evaluation, Result, Row
from hvp.labels import LabelSpace
from hvp.reporting.loggers import build_loggers, log_confusion, log_curves, log_rows, log_scalars
from hvp.reporting.panels import ClipPanel, write_panel
from hvp.reporting.plots import result_lines


def log_evaluation(
    config: DictConfig,
    evaluation: Evaluation,
    protocol: Protocol,
    space: LabelSpace,
    panels: Iterable[ClipPanel],
) -> None:
    """Log an evaluation to the configured loggers; the videos also lie in `<output_dir>/samples`.

    Args:
        config: the composed config.
        evaluation: the results.
        protocol: what was measured.
        space: colours of the label maps.
        panels: the clips to show; only read where a logger shows videos.
    """
    loggers = build_loggers(
        {
            str(k): v
            for k, v in OmegaConf.to_container(config.logger, resolve=True).items()  # type: ignore[union-attr]
            if v
        }
    )
    for result in evaluation:
        log_scalars(loggers, _scalars(result), 0)
        for metric in result.metrics:
            lines = result_lines(result, metric)
            trained = result.protocol.trained_horizon
            name = f"evaluation/horizon/{metric}"
            log_curves(loggers, name, metric, lines, trained, 0)
        for system, confusion in result.confusion.items():
            name = f"evaluation/confusion/{_key(system)}"
            log_confusion(loggers, name, confusion, space.classes, 0)
    log_rows(loggers, "evaluation/results", _rows(evaluation), 0)
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        rows = []
        for number, panel in enumerate(panels):
            path = Path(config.output_dir) / "samples" / f"{number}.mp4"
            trained, horizon = protocol.trained_horizon, protocol.horizon
            look = config.video_fps, config.evaluate.frames_shown
            write_panel(path, panel, space, protocol.context, trained, horizon, *look)
            rows.append({"clip": panel.name, " | ".join(panel.titles[:1]) + " | samples": path})
        log_rows(loggers, "evaluation/samples", rows, 0)
    for logger in loggers:
        logger.save()


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
