"""What the evaluation tells the loggers: windows as scalars; curves and videos where they show."""

from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning.loggers import WandbLogger

from hvp.evaluation.curves import MEAN
from hvp.evaluation.panels import ClipPanel, write_panel
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Evaluation
from hvp.evaluation.summary import METRICS
from hvp.labels import LabelSpace
from hvp.stages.loggers import build_loggers, log_curves, log_scalars, log_videos


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
    loggers = build_loggers(config)
    for result in evaluation:
        scalars = {
            f"evaluation/{row.metric}/{_key(row.system)}/{_key(row.aggregate)}/{row.window}": (
                row.value
            )
            for row in result.window_rows()
        }
        log_scalars(loggers, scalars, 0)
        for metric in dict.fromkeys(curve.metric for curve in result.curves):
            lines = {
                curve.system if curve.aggregate == MEAN else f"{curve.system}, {curve.aggregate}": (
                    curve.values
                )
                for curve in result.curves
                if curve.metric == metric
            }
            log_curves(loggers, f"evaluation/horizon/{metric}", METRICS[metric].title, lines, 0)
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        rows = []
        for number, panel in enumerate(panels):
            path = Path(config.output_dir) / "samples" / f"{number}.mp4"
            trained, horizon = protocol.trained_horizon, protocol.horizon
            look = config.evaluate.fps, config.evaluate.frames_shown
            write_panel(path, panel, space, protocol.context, trained, horizon, *look)
            rows.append({"clip": panel.name, " | ".join(panel.titles[:1]) + " | samples": path})
        log_videos(loggers, "evaluation/samples", rows, 0)
    for logger in loggers:
        logger.save()


def _key(text: str) -> str:
    return text.replace(" ", "_")
