"""Stage `dashboard`: a W&B workspace for the project, made or brought up to date.

What it shows are the names under which modules, callbacks and the evaluation log. Sections are
replaced; what people set beside them (filters, colours of runs) stays.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hvp.artifacts.wandb.run import WandbRun
from hvp.errors import ConfigError, ServerError
from hvp.evaluation.build import Recipes, measure_classes
from hvp.evaluation.measure import Measure
from hvp.log import say
from hvp.reporting.charts import CONFUSION, LINES
from hvp.reporting.evaluation_log import confusion_figure_name, horizon_figure_name

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

NAME = "hvp"
_STEP = "trainer/global_step"


def run(config: DictConfig) -> None:
    """Create the workspace of `wandb.project`, or update the one an earlier call created.

    Raises:
        ConfigError: the extra `dashboards` is not installed.
        ServerError: W&B cannot be reached, or refused.
    """
    settings: WandbRun = instantiate(config.wandb)
    recipes = cast(Recipes, OmegaConf.to_container(config.evaluate.measures, resolve=True))
    try:
        import wandb_workspaces  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            "stage=dashboard needs the extra `dashboards`: pip install 'hvp[dashboards]' "
            f"({error.name} is missing)"
        ) from error
    api = settings.api()
    entity = settings.entity or api.default_entity or ""
    try:
        api.create_project(settings.project, entity)  # does nothing where it exists
        workspace = _workspace(settings, entity)
        workspace.sections = sections(measure_classes(recipes).values())
        workspace.save()
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ServerError(f"W&B at {settings.base_url} did not take the dashboard: {reason}") from (
            error
        )
    say(f"dashboard {workspace.url}")


def _workspace(settings: WandbRun, entity: str) -> "Workspace":
    """The workspace that earlier calls made, else a new one.

    The id is derived from its place, so that every machine finds the same one.
    """
    import wandb_workspaces.workspaces as ws

    place = f"{entity}/{settings.project}"
    view = hashlib.sha256(f"{NAME} {place}".encode()).hexdigest()[:11]
    try:
        return ws.Workspace.from_url(f"{settings.base_url}/{place}?nw={view}")
    except ValueError:  # not there yet
        workspace = ws.Workspace(entity=entity, project=settings.project, name=NAME)
        workspace._internal_name = f"nw-{view}-v"
        return workspace


def sections(measures: Iterable[type[Measure]]) -> list["Section"]:
    """Both stages, the evaluation, and how the machines fared.

    Args:
        measures: those of the config; the evaluation's charts are of their metrics.
    """
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    def lines(title: str, *names: str, log: bool = False) -> wr.LinePlot:
        return wr.LinePlot(title=title, x=_STEP, y=list(names), log_y=log)

    def chart(name: str, style: str, fields: dict[str, str]) -> wr.CustomChart:
        query: dict[str, Any] = {"summaryTable": {"tableKey": f"{name}_table"}}
        strings = {"title": name}
        return wr.CustomChart(
            query=query, chart_name=style, chart_fields=fields, chart_strings=strings
        )

    def table(name: str) -> wr.WeavePanelSummaryTable:
        return wr.WeavePanelSummaryTable(table_name=name)

    structure: list[Any] = [
        lines("loss", "train/loss", "val/loss", log=True),
        lines("reconstruction", "train/nll", "val/nll"),
        lines("KL", "train/kl", "val/kl"),
        lines("validation mIoU", "val/miou", "val/miou_best"),
        chart("horizon/miou", *LINES),
        chart("confusion/validation", *CONFUSION),
        table("samples/validation"),
    ]
    image: list[Any] = [
        lines("generator", "train/generator"),
        lines("discriminators", "train/discriminators"),
        lines("validation PSNR", "val/psnr"),
        lines("validation L1", "val/l1"),
        lines("frames per training clip", "train/n_frames"),
        table("samples/validation"),
    ]
    measures = list(measures)
    evaluation: list[Any] = [
        chart(horizon_figure_name(metric.name), *LINES)
        for measure in measures
        for metric in measure.metrics
        if metric.kind != "classes"
    ]
    evaluation += [
        chart(confusion_figure_name(measure.metrics[0].model), *CONFUSION)
        for measure in measures
        if measure.gives_confusion
    ]
    evaluation += [table("evaluation/results"), table("evaluation/samples")]
    training: list[Any] = [
        lines("clips per second", "speed/clips"),
        lines("frames per second", "speed/frames"),
        lines("gradient norms", "gradient_norm", "gradient_norm/0", "gradient_norm/1", log=True),
        lines("learning rates", "lr-Adam", "train/lr_generator", "train/lr_discriminators"),
    ]
    return [
        ws.Section(name="Stage one: structure", panels=structure, is_open=True),
        ws.Section(name="Stage two: image", panels=image, is_open=True),
        ws.Section(name="Evaluation", panels=evaluation, is_open=True),
        ws.Section(name="Training", panels=training),
    ]
