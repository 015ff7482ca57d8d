"""Stage `dashboard`: create or update the W&B workspace of the project.

Its charts show the names that modules, callbacks and the evaluation log. Sections are replaced;
other edits of the workspace (filters, colours of runs) are kept.
"""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.artifacts.store import Artifact
from hvp.artifacts.wandb.run import WandbRun
from hvp.config.build import model_class
from hvp.config.digests import plain
from hvp.config.settings import model_settings
from hvp.errors import ConfigError, ServerError
from hvp.evaluation.build import Recipes, measure_classes
from hvp.evaluation.measure import Measure
from hvp.log import say
from hvp.model import Model
from hvp.reporting.charts import CONFUSION, LINES
from hvp.reporting.evaluation_log import confusion_figure_name, horizon_figure_name

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

NAME = "hvp"
_STEP = "trainer/global_step"


class Dashboard:
    """Creates or updates the workspace; see `hvp.launch.stage.Stage`."""

    def __init__(self, config: DictConfig) -> None:
        self.run_settings: WandbRun = instantiate(config.wandb)
        self.measures: Recipes = plain(config.evaluate.measures)
        self.models = {key: model_settings(config, key) for key in ("structure", "image")}

    def run(self) -> None:
        """Create the workspace of `wandb.project`, or update the existing one.

        Raises:
            ConfigError: the extra `dashboards` is not installed.
            ServerError: W&B cannot be reached, or refuses the request.
        """
        settings = self.run_settings
        try:
            import wandb_workspaces  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError(
                "stage=dashboard needs the extra `dashboards`: pip install 'hvp[dashboards]' "
                f"({error.name} is missing)"
            ) from error
        api = settings.api()
        entity = settings.entity or api.default_entity or ""
        models = {key: model_class(model) for key, model in self.models.items()}
        measures = measure_classes(self.measures).values()
        try:
            api.create_project(settings.project, entity)  # does nothing where it exists
            workspace = _workspace(settings, entity)
            workspace.sections = sections(models["structure"], models["image"], measures)
            workspace.save()
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ServerError(
                f"W&B at {settings.base_url} did not take the dashboard: {reason}"
            ) from error
        say(f"dashboard {workspace.url}")

    def find_published(self) -> Artifact | None:
        """None: a workspace is no artifact."""
        return None


def _workspace(settings: WandbRun, entity: str) -> "Workspace":
    """Load the workspace of an earlier call, or create a new one.

    Its id is derived from entity and project, so that every machine finds the same one.
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


def sections(
    structure: type[Model], image: type[Model], measures: Iterable[type[Measure]]
) -> list["Section"]:
    """Sections of the workspace: both stages, evaluation, training throughput.

    Args:
        structure: class of the structure generator of the config.
        image: class of its image generator.
        measures: measures of the config, whose metrics the evaluation's charts show.
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

    def of_model(model: type[Model]) -> list[Any]:
        found: list[Any] = [
            lines(title, *names, log=log_scale) for title, names, log_scale in model.charts
        ]
        for name in model.preview_scores:
            found += [lines(f"validation {name}", f"val/{name}"), chart(f"horizon/{name}", *LINES)]
        if model.preview_scores:
            found.append(chart("confusion/validation", *CONFUSION))
        return [*found, table("samples/validation")]

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
        lines("learning rates", "lr-Adam", "lr-Adam-1"),
    ]
    return [
        ws.Section(name="Stage one: structure", panels=of_model(structure), is_open=True),
        ws.Section(name="Stage two: image", panels=of_model(image), is_open=True),
        ws.Section(name="Evaluation", panels=evaluation, is_open=True),
        ws.Section(name="Training", panels=training),
    ]
