"""Stage `evaluate`: metrics of both stages against ground truth and baselines, and the report."""

import shlex
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.errors import ConfigError
from hvp.evaluation.build import measure_classes
from hvp.evaluation.folder import folder_digest
from hvp.evaluation.results import Evaluation, load_results, save_results
from hvp.log import console, say
from hvp.reporting.evaluation_log import log_evaluation
from hvp.reporting.loggers import build_loggers
from hvp.reporting.panels import ClipVideo, write_clip_videos, write_panel
from hvp.reporting.report import Ancestor, Report, write_report
from hvp.reporting.summary import summarise, summary_table
from hvp.stages.evaluate.artifacts import NamedArtifacts, fetch_artifacts, predictions_folder
from hvp.stages.evaluate.comparison import Comparison
from hvp.stages.evaluate.inputs import open_artifacts, open_folder
from hvp.stages.evaluate.measuring import measure
from hvp.stages.evaluate.settings import artifact_name, evaluation_digest, plain
from hvp.stages.evaluate.side_by_side import compare

RESULT_FILES = ("report.html", "results.json", "results.csv", "preview.gif")

_PREVIEW_FRAMES = 100  # a GIF is held in memory


def run(config: DictConfig) -> None:
    """Measure, publish results and report, copy them to the output directory, print the table."""
    store = instantiate(config.artifacts)
    if config.evaluate.compare is not None:
        compare(config, store, _command())
        return
    measure_classes(plain(config.evaluate.measures))  # says what is wrong before any work
    files = _folder_digest(config)
    digest = evaluation_digest(config, store, files)
    artifact = None if config.force else _find(config, store, digest)
    if artifact is not None:
        say(f"evaluate: done for these settings, {artifact.reference}")
    else:
        artifact = _evaluate(config, store, files, digest)
    show_published(config, store, artifact)


def find_published(config: DictConfig, store: ArtifactStore) -> Artifact | None:
    """The evaluation this stage would publish, when it exists already."""
    return _find(config, store, evaluation_digest(config, store, _folder_digest(config)))


def show_published(config: DictConfig, store: ArtifactStore, artifact: Artifact) -> None:
    """Print the table, copy results and report to the output directory, print the paths."""
    published = store.fetch(artifact.reference).path
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        shutil.copyfile(published / name, output / name)
    console.print(summary_table(summarise(load_results(output / "results.json"))))
    say(f"report   {output / 'report.html'}")
    say(f"numbers  {output / 'results.json'}, {output / 'results.csv'}")
    if config.evaluate.predictions is None and config.videos is not None:
        say(f"videos   {store.lineage(config.videos)[0].path}")


def _find(config: DictConfig, store: ArtifactStore, digest: str) -> Artifact | None:
    return store.find(artifact_name(config), ArtifactType.EVALUATION, digest)


def _folder_digest(config: DictConfig) -> str | None:
    """Digest of the folder that is evaluated, read as a whole; None where it is artifacts."""
    folder = predictions_folder(config)
    return None if folder is None else folder_digest(folder)


def _command() -> str:
    """The command that was given."""
    return shlex.join(["python", "run.py", *HydraConfig.get().overrides.task])


def _device(config: DictConfig) -> torch.device:
    name = config.evaluate.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"evaluate.device={name}: cannot be used here ({str(error).splitlines()[0]}); "
            "expected auto, cpu or cuda"
        ) from error


def _evaluate(config: DictConfig, store: ArtifactStore, files: str | None, digest: str) -> Artifact:
    """Measure, publish and log."""
    device, command = _device(config), _command()
    artifacts = fetch_artifacts(config, store)
    folder = predictions_folder(config)
    if folder is None or files is None:
        comparison = open_artifacts(config, store, artifacts, command, device)
    else:
        comparison = open_folder(config, store, artifacts, folder, files)
    evaluation = measure(comparison, plain(config.evaluate.measures), device, command)
    videos = _draw(config, comparison, evaluation)
    with TemporaryDirectory() as staged:
        published = Path(staged)
        save_results(published, evaluation)
        report = _report(config, store, artifacts, comparison, evaluation, videos)
        write_report(published / "report.html", report)
        _preview(config, published / "preview.gif", comparison, evaluation)
        artifact = store.publish(
            published,
            name=artifact_name(config),
            type=ArtifactType.EVALUATION,
            metadata={"settings_digest": digest},
            inputs=artifacts.references,
            aliases=list(config.aliases),
        )
    log_evaluation(build_loggers(plain(config.logger)), evaluation, report.space, videos)
    return artifact


def _draw(config: DictConfig, comparison: Comparison, evaluation: Evaluation) -> list[ClipVideo]:
    """The videos that report and loggers show, in `<output_dir>/samples`."""
    n_clips, protocol = len(comparison.clips), comparison.protocol
    n_shown = min(config.evaluate.clips_shown, n_clips)
    shown = [comparison.clips[i * n_clips // n_shown] for i in range(n_shown)]  # evenly spread
    return write_clip_videos(
        Path(config.output_dir) / "samples",
        (comparison.panel(clip, evaluation.best_sample(clip.id)) for clip in shown),
        comparison.data.label_space,
        protocol.context,
        protocol.trained_horizon,
        protocol.horizon,
        config.video_fps,
        config.evaluate.frames_shown,
    )


def _preview(
    config: DictConfig, path: Path, comparison: Comparison, evaluation: Evaluation
) -> None:
    """A GIF of the first clip."""
    clip, protocol = comparison.clips[0], comparison.protocol
    write_panel(
        path,
        comparison.panel(clip, evaluation.best_sample(clip.id)),
        comparison.data.label_space,
        protocol.context,
        protocol.trained_horizon,
        protocol.horizon,
        config.video_fps,
        _PREVIEW_FRAMES,
    )


def _report(
    config: DictConfig,
    store: ArtifactStore,
    artifacts: NamedArtifacts,
    comparison: Comparison,
    evaluation: Evaluation,
    videos: list[ClipVideo],
) -> Report:
    ancestors = {
        ancestor.reference: Ancestor(str(ancestor.type), ancestor.reference)
        for reference in artifacts.references
        for ancestor in reversed(store.lineage(reference))
    }
    return Report(
        title=f"Long-term prediction on {config.dataset.name}",
        evaluation=evaluation,
        space=comparison.data.label_space,
        videos=videos,
        command=_command(),
        config=OmegaConf.to_yaml(config, resolve=True),
        lineage=list(ancestors.values()),
    )
