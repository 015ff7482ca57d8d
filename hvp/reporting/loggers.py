"""Loggers (CSV, TensorBoard, W&B), and what goes to them beyond Lightning's scalars.

Scalars go to every logger, the rest to those that can show it: curves and confusion matrices to W&B
and TensorBoard, Tables and videos to W&B. Nothing here is needed for a run to succeed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
from hydra.utils import instantiate
from matplotlib.figure import Figure
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from hvp.artifacts.wandb.run import WandbRun
from hvp.log import rank
from hvp.reporting.charts import CONFUSION, LINES
from hvp.reporting.plots import Line, lines_figure

if TYPE_CHECKING:
    import wandb


def build_loggers(recipes: Mapping[str, Mapping[str, Any] | None]) -> list[Logger]:
    """Loggers from their recipes.

    Args:
        recipes: by name what `hydra.utils.instantiate` takes, plain values with a `_target_`; None
            for a logger that is switched off.
    """
    loggers = [instantiate(recipe) for recipe in recipes.values() if recipe is not None]
    return [logger for logger in loggers if logger is not None]


def wandb_logger(run: WandbRun) -> WandbLogger | None:
    """Lightning's logger on the job's W&B run; None where that is disabled."""
    if run.mode == "disabled":
        return None
    opened = run.open() if rank() == 0 else None
    return WandbLogger(project=run.project, save_dir=run.dir, experiment=opened)


def log_scalars(loggers: Sequence[Logger], values: Mapping[str, float], step: int) -> None:
    """The finite ones of `values`, to every logger."""
    finite = {name: float(value) for name, value in values.items() if np.isfinite(value)}
    for logger in loggers:
        logger.log_metrics(finite, step)


def log_curves(
    loggers: Sequence[Logger],
    name: str,
    title: str,
    lines: Sequence[Line],
    trained: int | None,
    step: int,
) -> None:
    """Scores against the horizon, in one figure.

    Args:
        loggers: those of the trainer or of the config.
        name: of the figure.
        title: what people call the metric, with its unit.
        lines: what is drawn; NaN is left out.
        trained: last step that training went through; None where it is not marked.
        step: the training step.
    """
    for run in _runs(loggers):
        import wandb

        rows = [
            [line.label, float(predicted), float(value)]
            for line in lines
            for predicted, value in zip(line.steps, line.values, strict=True)
            if np.isfinite(value)
        ]
        table = wandb.Table(columns=["lineKey", "step", "lineVal"], data=rows)
        style, fields = LINES
        labels = {"title": title, "xname": "predicted step"}
        figure = wandb.plot_table(style, table, fields, labels)
        _log(run, {name: figure}, step)
    for board in _boards(loggers):
        board.add_figure(name, lines_figure(lines, title, trained), step)


def log_confusion(
    loggers: Sequence[Logger], name: str, confusion: np.ndarray, classes: Sequence[str], step: int
) -> None:
    """A confusion matrix, int (C, C+1): row true, column predicted, the last one predicted none."""
    for run in _runs(loggers):
        import wandb

        rows = [
            [actual, predicted, int(confusion[i, j])]
            for i, actual in enumerate(classes)
            for j, predicted in enumerate(classes)
        ]
        table = wandb.Table(columns=list(CONFUSION[1]), data=rows)
        style, fields = CONFUSION
        figure = wandb.plot_table(style, table, fields, {"title": "pixels: true and predicted"})
        _log(run, {name: figure}, step)
    for board in _boards(loggers):
        board.add_figure(name, _confusion_figure(confusion[:, :-1], classes), step)


def _confusion_figure(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Shares of each true class, as a picture."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    figure.colorbar(axes.imshow(shares, vmin=0, vmax=1, cmap="Blues"), label="share of true pixels")
    axes.set_xticks(range(len(classes)), classes, rotation=90)
    axes.set_yticks(range(len(classes)), classes)
    return figure


def log_rows(
    loggers: Sequence[Logger], name: str, rows: Sequence[Mapping[str, Any]], step: int
) -> None:
    """A Table, all rows with the same keys; the path of an .mp4 is shown as its video."""
    for run in _runs(loggers) if rows else ():
        import wandb

        columns: list[str | int] = list(rows[0])
        data = [
            [
                wandb.Video(str(value), format="mp4") if isinstance(value, Path) else value
                for value in row.values()
            ]
            for row in rows
        ]
        _log(run, {name: wandb.Table(columns=columns, data=data)}, step)


def log_table(run: WandbRun, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A Table in a run without a trainer, one row per entry; keys that a row lacks stay empty."""
    import wandb

    columns: list[str | int] = list(dict.fromkeys(key for row in rows for key in row))
    data = [[row.get(str(column)) for column in columns] for row in rows]
    run.open().log({name: wandb.Table(columns=columns, data=data)})


def trainer_loggers(trainer: pl.Trainer) -> list[Logger]:
    """The loggers of a trainer, on the rank that logs; none on others."""
    return list(trainer.loggers) if trainer.is_global_zero else []


def _runs(loggers: Sequence[Logger]) -> list["wandb.Run"]:
    found = [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]
    return found if rank() == 0 else []


def _boards(loggers: Sequence[Logger]) -> list[Any]:
    """TensorBoard's writers."""
    found = [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]
    return found if rank() == 0 else []


def _log(run: "wandb.Run", values: dict[str, Any], step: int) -> None:
    run.log({**values, "trainer/global_step": step})
