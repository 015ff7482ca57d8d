"""Stage `evaluate`: metrics of both stages against ground truth and baselines, and the report."""

import shlex
import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from omegaconf import DictConfig

from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.config.build import build_store
from hvp.errors import ConfigError
from hvp.evaluation.build import measure_classes
from hvp.evaluation.folder import folder_digest
from hvp.evaluation.results import Evaluation, load_results, save_results
from hvp.log import console, say
from hvp.machine_paths import text_without_machine_paths, without_machine_paths
from hvp.reporting.evaluation_log import log_evaluation
from hvp.reporting.loggers import build_loggers
from hvp.reporting.panels import ClipVideo, write_clip_videos, write_panel
from hvp.reporting.report import Ancestor, Report, write_report
from hvp.reporting.summary import summarise, summary_table
from hvp.stages.evaluate.artifacts import NamedArtifacts, fetch_artifacts
from hvp.stages.evaluate.comparison import Comparison
from hvp.stages.evaluate.inputs import open_artifacts, open_folder
from hvp.stages.evaluate.measuring import measure
from hvp.stages.evaluate.settings import EvaluationSettings, evaluation_digest, evaluation_settings
from hvp.stages.evaluate.side_by_side import compare

RESULT_FILES = ("report.html", "results.json", "results.csv", "preview.gif")

_PREVIEW_FRAMES = 100  # a GIF is held in memory


class Evaluate:
    """Computes metrics and writes the report; see `hvp.launch.stage.Stage`."""

    def __init__(self, config: DictConfig) -> None:
        self.settings = evaluation_settings(config)

    def run(self) -> None:
        """Measure, publish results and report, copy them to the output directory, print the table.

        An existing evaluation for the same settings is only shown.
        """
        settings, store = self.settings, self.store
        if settings.compare is not None:
            compare(settings, store, self._command)
            return
        measure_classes(settings.measures)  # fail early on wrong recipes
        artifact = None if settings.force else self.find_published()
        if artifact is not None:
            say(f"evaluate: done for these settings, {artifact.reference}")
        else:
            artifact = self._evaluate()
        self._show(artifact)

    def find_published(self) -> Artifact | None:
        """Existing evaluation artifact for these settings, if any."""
        name = self.settings.artifact_name
        return self.store.find(name, ArtifactType.EVALUATION, self._digest)

    @cached_property
    def store(self) -> ArtifactStore:
        """Artifact store."""
        return build_store(self.settings.store)

    @cached_property
    def _files(self) -> str | None:
        """Digest of all files of the evaluated folder; None if artifacts are evaluated."""
        folder = self.settings.folder
        return None if folder is None else folder_digest(folder)

    @cached_property
    def _digest(self) -> str:
        return evaluation_digest(self.settings, self.store, self._files)

    @property
    def _command(self) -> str:
        """Command line of this run, for the report: without the paths of this machine."""
        settings = self.settings
        overrides = without_machine_paths(list(settings.command_line), settings.work_dir)
        return shlex.join(["python", "run.py", *overrides])

    def _show(self, artifact: Artifact) -> None:
        """Copy results and report to the output directory; print table and paths."""
        settings, published = self.settings, self.store.fetch(artifact.reference).path
        output = settings.output_dir
        output.mkdir(parents=True, exist_ok=True)
        for name in RESULT_FILES:
            shutil.copyfile(published / name, output / name)
        console.print(summary_table(summarise(load_results(output / "results.json"))))
        say(f"report   {output / 'report.html'}")
        say(f"numbers  {output / 'results.json'}, {output / 'results.csv'}")
        if settings.foreign is None and settings.videos is not None:
            say(f"videos   {self.store.lineage(settings.videos)[0].path}")

    def _evaluate(self) -> Artifact:
        """Measure, publish and log."""
        settings, store, command = self.settings, self.store, self._command
        device = _device(settings.device)
        artifacts = fetch_artifacts(settings, store)
        if settings.folder is None or self._files is None:
            comparison = open_artifacts(settings, store, artifacts, command, device)
        else:
            comparison = open_folder(settings, store, artifacts, settings.folder, self._files)
        evaluation = measure(comparison, settings.measures, device, command)
        evaluation = _publishable(evaluation, settings.work_dir)
        videos = _draw(settings, comparison, evaluation)
        with TemporaryDirectory() as staged:
            published = Path(staged)
            save_results(published, evaluation)
            report = self._report(artifacts, comparison, evaluation, videos)
            write_report(published / "report.html", report)
            _preview(settings, published / "preview.gif", comparison, evaluation)
            artifact = store.publish(
                published,
                name=settings.artifact_name,
                type=ArtifactType.EVALUATION,
                metadata={"settings_digest": self._digest},
                inputs=artifacts.references,
                aliases=settings.aliases,
            )
        log_evaluation(build_loggers(settings.loggers), evaluation, report.space, videos)
        return artifact

    def _report(
        self,
        artifacts: NamedArtifacts,
        comparison: Comparison,
        evaluation: Evaluation,
        videos: list[ClipVideo],
    ) -> Report:
        ancestors = {
            ancestor.reference: Ancestor(str(ancestor.type), ancestor.reference)
            for reference in artifacts.references
            for ancestor in reversed(self.store.lineage(reference))
        }
        return Report(
            title=f"Long-term prediction on {self.settings.dataset}",
            evaluation=evaluation,
            space=comparison.data.label_space,
            videos=videos,
            command=self._command,
            config=self.settings.config_text,
            lineage=list(ancestors.values()),
        )


def _publishable(evaluation: Evaluation, work_dir: Path) -> Evaluation:
    """The evaluation, whose reasons for missing metrics name no path of this machine."""
    return replace(
        evaluation,
        not_computed=tuple(
            replace(
                item,
                why=text_without_machine_paths(item.why, work_dir),
                command=text_without_machine_paths(item.command, work_dir),
            )
            for item in evaluation.not_computed
        ),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"evaluate.device={name}: cannot be used here ({str(error).splitlines()[0]}); "
            "expected auto, cpu or cuda"
        ) from error


def _draw(
    settings: EvaluationSettings, comparison: Comparison, evaluation: Evaluation
) -> list[ClipVideo]:
    """Write the videos of report and loggers to `<output_dir>/samples`."""
    n_clips, protocol = len(comparison.clips), comparison.protocol
    n_shown = min(settings.clips_shown, n_clips)
    shown = [comparison.clips[i * n_clips // n_shown] for i in range(n_shown)]  # evenly spread
    return write_clip_videos(
        settings.output_dir / "samples",
        (comparison.panel(clip, evaluation.best_sample(clip.id)) for clip in shown),
        comparison.data.label_space,
        protocol.context,
        protocol.trained_horizon,
        protocol.horizon,
        settings.video_fps,
        settings.frames_shown,
    )


def _preview(
    settings: EvaluationSettings, path: Path, comparison: Comparison, evaluation: Evaluation
) -> None:
    """Write a GIF of the first clip."""
    clip, protocol = comparison.clips[0], comparison.protocol
    write_panel(
        path,
        comparison.panel(clip, evaluation.best_sample(clip.id)),
        comparison.data.label_space,
        protocol.context,
        protocol.trained_horizon,
        protocol.horizon,
        settings.video_fps,
        _PREVIEW_FRAMES,
    )
