"""Stage `evaluate`: metrics of both stages against ground truth and baselines, and the report."""

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hvp.artifacts.predictions import PredictedClip, PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.artifacts.videos import VideoSet
from hvp.data.clips import ClipId
from hvp.data.packed import PreparedDataset
from hvp.errors import ConfigError
from hvp.evaluation.panels import ClipPanel, Stream, write_panel
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.report import Ancestor, Report, write_report
from hvp.evaluation.results import Evaluation, NotComputed, Result, load_results, save_results
from hvp.evaluation.runner import ImageClip, evaluate_images, evaluate_structure
from hvp.evaluation.summary import summarise, summary_table
from hvp.files import settings_digest
from hvp.log import console, say, track
from hvp.stages.clips import (
    IMAGE_CHANNELS,
    STRUCTURE_CHANNELS,
    build_datamodule,
    check_same_data,
)
from hvp.stages.evaluation_log import log_evaluation

RESULT_FILES = ("report.html", "results.json", "results.csv", "preview.gif")


def run(config: DictConfig) -> None:
    """Measure, publish results and report, copy them to the output directory, print the table."""
    store = instantiate(config.artifacts)
    artifact = None if config.force else find_published(config, store)
    if artifact is not None:
        say(f"evaluate: done for these settings, {artifact.reference}")
    else:
        artifact = _evaluate(config, store)
    show_published(config, store, artifact)


def find_published(config: DictConfig, store: ArtifactStore) -> Artifact | None:
    """The evaluation this stage would publish, when it exists already."""
    return store.find(_name(config), ArtifactType.EVALUATION, _digest(config, store))


def show_published(config: DictConfig, store: ArtifactStore, artifact: Artifact) -> None:
    """Print the table, copy results and report to the output directory, say where all lies."""
    published = store.fetch(artifact.reference).path
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        shutil.copyfile(published / name, output / name)
    console.print(summary_table(summarise(load_results(output / "results.json"))))
    say(f"report   {output / 'report.html'}")
    say(f"numbers  {output / 'results.json'}, {output / 'results.csv'}")
    if config.videos is not None:
        say(f"videos   {store.lineage(config.videos)[0].path}")


def _name(config: DictConfig) -> str:
    return f"evaluation-{config.dataset.name}"


def _digest(config: DictConfig, store: ArtifactStore) -> str:
    """Of everything the page depends on: what exactly is evaluated, and how it is shown."""
    references = [config.predictions] + ([] if config.videos is None else [config.videos])
    versions = [store.lineage(reference)[0].reference for reference in references]
    shown = OmegaConf.to_container(config.evaluate, resolve=True)
    return settings_digest({"stage": "evaluate", "inputs": versions, "evaluate": shown})


def _evaluate(config: DictConfig, store: ArtifactStore) -> Artifact:
    predictions = store.fetch(config.predictions, ArtifactType.PREDICTIONS)
    videos = None if config.videos is None else store.fetch(config.videos, ArtifactType.VIDEOS)
    material = open_material(config, predictions, videos)
    results: list[Result] = [
        evaluate_structure(
            track(material.labels(), "evaluate label maps", len(material.predictions), "clips"),
            material.protocol,
            material.predictions.header.label_space,
        )
    ]
    not_computed: tuple[NotComputed, ...] = ()
    if material.videos is None:
        command = f"python run.py stage=image dataset={config.dataset.name}"
        not_computed = (
            NotComputed("PSNR and SSIM", "no translated videos (videos=null)", command),
        )
    else:
        clips = track(material.images(), "evaluate RGB", len(material.predictions), "clips")
        results.append(evaluate_images(clips, material.protocol))
    evaluation = Evaluation(tuple(results), not_computed)
    with TemporaryDirectory() as staged:
        folder = Path(staged)
        save_results(folder, evaluation)
        report = _report(config, store, material, evaluation)
        write_report(folder / "report.html", report)
        write_panel(
            folder / "preview.gif",
            material.panel(material.predictions.clips[0], evaluation),
            report.space,
            context=material.protocol.context,
            trained=material.protocol.trained_horizon,
            horizon=material.protocol.horizon,
            fps=config.evaluate.fps,
        )
        artifact = store.publish(
            folder,
            name=_name(config),
            type=ArtifactType.EVALUATION,
            metadata={"settings_digest": _digest(config, store)},
            inputs=material.protocol.artifacts,
        )
    shown = (material.panel(clip, evaluation) for clip in _shown(config, material))
    log_evaluation(config, evaluation, material.protocol, report.space, shown)
    return artifact


@dataclass(frozen=True)
class Material:
    """What is compared: predictions, their translation and the ground truth."""

    data: PreparedDataset
    predictions: PredictionSet
    videos: VideoSet | None
    protocol: Protocol

    def labels(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Name, samples (S, T, H, W) and ground truth (T', H, W) of each clip."""
        for clip, samples in self.predictions:
            yield clip.id, samples, self.data.read("labels", _clip_id(clip), clip.length)

    def images(self) -> Iterator[ImageClip]:
        """The RGB streams of each clip."""
        assert self.videos is not None
        for clip in self.predictions.clips:
            of_clip = [video for video in self.videos.clips if video.id == clip.id]
            yield ImageClip(
                name=clip.id,
                truth=self.frames(clip),
                samples=[self.videos.frames(v) for v in of_clip if v.kind == "sample"],
                oracle=next((self.videos.frames(v) for v in of_clip if v.kind == "oracle"), None),
            )

    def frames(self, clip: PredictedClip) -> Iterator[np.ndarray]:
        """Ground-truth RGB (H, W, 3) uint8, one frame at a time."""
        recording = next(r for r in self.data.recordings if r.name == clip.recording)
        for t in range(clip.length):
            first = clip.first + t * clip.step
            if first >= recording.n_frames:
                return
            frame = ClipId(clip.recording, first, clip.step)
            yield self.data.read("frames", frame, 1)[0].transpose(1, 2, 0)

    def panel(self, clip: PredictedClip, evaluation: Evaluation) -> ClipPanel:
        """The report's video of one clip."""
        best = evaluation.results[0].best_samples["miou"][clip.id]
        samples = self.predictions.samples(clip)
        image = next(i for i in self.images() if i.name == clip.id) if self.videos else None
        truth = self.data.read("labels", _clip_id(clip), clip.length)
        return ClipPanel.arrange(
            clip.id,
            Stream(truth, None if image is None else image.truth),
            [
                Stream(labels, None if image is None else image.samples[number])
                for number, labels in enumerate(samples)
            ],
            best,
        )


def open_material(
    config: DictConfig, predictions_artifact: Artifact, videos_artifact: Artifact | None
) -> Material:
    """Open what is compared and check that its parts belong together.

    Raises:
        ConfigError: the predictions were made from other data than the dataset of this config, or
            the videos from other predictions.
    """
    predictions = PredictionSet(predictions_artifact.path)
    videos = None if videos_artifact is None else VideoSet(videos_artifact.path)
    channels = STRUCTURE_CHANNELS if videos is None else IMAGE_CHANNELS
    datamodule = build_datamodule(config, "structure", channels)
    datamodule.prepare_data()
    check_same_data(config, predictions, datamodule.data)
    if videos is not None and videos.header.predictions != predictions_artifact.reference:
        raise ConfigError(
            f"videos={config.videos} translate {videos.header.predictions}, but predictions="
            f"{config.predictions} is {predictions_artifact.reference}; name a pair that belongs "
            "together"
        )
    first = predictions.clips[0]
    protocol = Protocol(
        dataset=config.dataset.name,
        split="test",
        height=datamodule.size[0],
        width=datamodule.size[1],
        frame_step=predictions.header.frame_step,
        n_clips=len(predictions),
        n_samples=first.samples,
        context=first.context,
        horizon=first.horizon,
        trained_horizon=config.dataset.rules.n_future,
        seed=predictions.header.seed,
        artifacts=tuple(a.reference for a in (predictions_artifact, videos_artifact) if a),
    )
    return Material(datamodule.data, predictions, videos, protocol)


def _clip_id(clip: PredictedClip) -> ClipId:
    return ClipId(clip.recording, clip.first, clip.step)


def _shown(config: DictConfig, material: Material) -> list[PredictedClip]:
    """The clips that people get to see, evenly spread."""
    n_clips = len(material.predictions)
    n_shown = min(config.evaluate.clips_shown, n_clips)
    return [material.predictions.clips[i * n_clips // n_shown] for i in range(n_shown)]


def _report(
    config: DictConfig, store: ArtifactStore, material: Material, evaluation: Evaluation
) -> Report:
    ancestors = {
        ancestor.reference: Ancestor(str(ancestor.type), ancestor.reference)
        for reference in material.protocol.artifacts
        for ancestor in reversed(store.lineage(reference))
    }
    return Report(
        title=f"Long-term prediction on {config.dataset.name}",
        evaluation=evaluation,
        space=material.predictions.header.label_space,
        panels=[material.panel(clip, evaluation) for clip in _shown(config, material)],
        command=shlex.join(["python", "run.py", *HydraConfig.get().overrides.task]),
        config=OmegaConf.to_yaml(config, resolve=True),
        lineage=list(ancestors.values()),
        fps=config.evaluate.fps,
    )
