"""Loading of predictions, videos and baselines, checked to belong together."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from hvp.artifacts.predictions import PredictedClip, PredictionSet
from hvp.artifacts.store import ArtifactStore
from hvp.artifacts.videos import Kind, VideoSet
from hvp.clips import Channel
from hvp.config.build import build_datamodule
from hvp.data.datamodule import ClipDataModule
from hvp.errors import ConfigError
from hvp.evaluation.folder import FolderPredictions, write_clip_list
from hvp.evaluation.missing import Missing, Unavailable
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.streams import Stream
from hvp.evaluation.systems import IMAGE_MODEL, ORACLE, STRUCTURE_MODEL, SVG_RGB
from hvp.machine_paths import without_machine_paths
from hvp.stages.evaluate.artifacts import NamedArtifacts, checkpoints_of
from hvp.stages.evaluate.comparison import Comparison, Videos
from hvp.stages.evaluate.settings import EvaluationSettings
from hvp.stages.evaluate.structure_generator import load_structure_generator
from hvp.training.dataset import check_same_data

_LABELS: tuple[Channel, ...] = ("labels",)
_WITH_RGB: tuple[Channel, ...] = ("labels", "frames")


def open_artifacts(
    settings: EvaluationSettings,
    store: ArtifactStore,
    artifacts: NamedArtifacts,
    command: str,
    device: torch.device,
) -> Comparison:
    """Open predictions, videos and baselines of the artifact store.

    Args:
        settings: settings of the stage.
        store: artifact store, for lineage.
        artifacts: from `fetch_artifacts`, with label predictions.
        command: command of this evaluation, for messages about missing inputs.
        device: device of the structure generator, for posterior reconstruction.

    Raises:
        ConfigError: the predictions were made from other data than the dataset of this config, or
            the videos from other predictions.
    """
    assert artifacts.predictions is not None
    datamodule = build_datamodule(settings.data, _LABELS if artifacts.videos is None else _WITH_RGB)
    datamodule.prepare_data()
    predictions = PredictionSet(artifacts.predictions.path)
    check_same_data(predictions, datamodule.data, settings.predictions)
    clips, seed = predictions.clips, predictions.header.seed
    comparison = Comparison(
        datamodule.data,
        clips,
        _protocol(settings, store, datamodule, artifacts, clips, seed),
        {"labels": {STRUCTURE_MODEL: predictions.streams}},
        partial(load_structure_generator, settings, store, artifacts.predictions, device, command),
    )
    if artifacts.videos is None:
        made = f"python run.py stage=image dataset={settings.dataset}"
        return replace(
            comparison, absent={"frames": Unavailable("No translated videos (videos=null).", made)}
        )
    videos = VideoSet(artifacts.videos.path)
    if videos.header.predictions != artifacts.predictions.reference:
        raise ConfigError(
            f"videos={settings.videos} translate {videos.header.predictions}, but predictions="
            f"{settings.predictions} is {artifacts.predictions.reference}; name a pair that "
            "belongs together"
        )
    frames = {IMAGE_MODEL: _videos_of(videos, "sample"), ORACLE: _videos_of(videos, "oracle")}
    comparison = replace(comparison, systems={**comparison.systems, "frames": frames})
    return _with_svg_rgb(settings, artifacts, comparison)


def open_folder(
    settings: EvaluationSettings,
    store: ArtifactStore,
    artifacts: NamedArtifacts,
    folder: Path,
    digest: str,
) -> Comparison:
    """Open a folder of foreign predictions; writes the list of its clips to `clips.csv`.

    Args:
        settings: settings of the stage.
        store: artifact store, for lineage.
        artifacts: from `fetch_artifacts`, baselines only.
        folder: folder of predictions.
        digest: its `folder_digest`.

    Raises:
        ConfigError: the folder holds RGB, but the dataset has none.
        DataError: the folder has another layout than documented.
    """
    source = without_machine_paths(str(settings.foreign), settings.work_dir)
    datamodule = build_datamodule(settings.data, _LABELS)
    channels = _WITH_RGB if datamodule.has_frames else _LABELS
    datamodule = build_datamodule(settings.data, channels)
    datamodule.prepare_data()
    rules, data = datamodule.rules, datamodule.data
    clips = [PredictedClip(c, rules.n_past, rules.n_eval, samples=1) for c in datamodule.eval_clips]
    write_clip_list(settings.output_dir / "clips.csv", clips)
    found = FolderPredictions(folder, clips, data.size, data.label_space)
    if found.has_frames and "frames" not in channels:
        raise ConfigError(
            f"evaluate.predictions={settings.foreign}: holds RGB, but dataset={settings.dataset} "
            "has none to compare it with"
        )
    clips = [replace(clip, samples=found.n_samples) for clip in clips]

    def after_context(channel: Channel, videos: Videos) -> Videos:
        def of_clip(clip: PredictedClip) -> list[Stream]:
            def context() -> Iterator[np.ndarray]:
                return data.stream(channel, clip.clip, clip.context)

            return [chain(context(), video) for video in videos(clip)]

        return of_clip

    systems: dict[Channel, dict[str, Videos]] = {}
    absent: dict[Channel, Unavailable] = {}
    if found.has_labels:
        systems["labels"] = {STRUCTURE_MODEL: after_context("labels", found.labels)}
    else:
        absent["labels"] = Unavailable(f"{source} holds no label maps.")
    if found.has_frames:
        systems["frames"] = {IMAGE_MODEL: after_context("frames", found.frames)}
    else:
        absent["frames"] = Unavailable(f"{source} holds no RGB.")
    no_model = Unavailable("The model that made a folder of predictions is not at hand.")

    def load_model() -> NoReturn:
        raise no_model

    protocol = _protocol(settings, store, datamodule, artifacts, clips, None)
    origin = f"{source} (sha256 {digest[:16]})"
    protocol = replace(protocol, artifacts=(origin, *protocol.artifacts))
    comparison = Comparison(data, clips, protocol, systems, load_model, absent)
    if not found.has_frames:
        return comparison
    comparison = comparison.with_missing(Missing(("RGB of true labels",), no_model))
    return _with_svg_rgb(settings, artifacts, comparison)


def _videos_of(videos: VideoSet, kind: Kind) -> Videos:
    def of_clip(clip: PredictedClip) -> list[Stream]:
        return [videos.frames(video) for video in videos.of(clip.clip, kind)]

    return of_clip


def _protocol(
    settings: EvaluationSettings,
    store: ArtifactStore,
    datamodule: ClipDataModule,
    artifacts: NamedArtifacts,
    clips: Sequence[PredictedClip],
    seed: int | None,
) -> Protocol:
    first = clips[0]
    return Protocol(
        dataset=settings.dataset,
        split="test",
        height=datamodule.size[0],
        width=datamodule.size[1],
        frame_step=first.clip.step,
        n_clips=len(clips),
        n_samples=first.samples,
        context=first.context,
        horizon=first.horizon,
        trained_horizon=settings.data.rules["n_future"],
        seed=seed,
        artifacts=artifacts.references,
        checkpoints=checkpoints_of(store, artifacts),
    )


def _with_svg_rgb(
    settings: EvaluationSettings, artifacts: NamedArtifacts, comparison: Comparison
) -> Comparison:
    """Add the baseline SVG-LP on RGB, if `evaluate.svg_rgb` names its videos."""
    if artifacts.svg_rgb is None:
        train = f"python run.py stage=svg_rgb dataset={settings.dataset}"
        then = f"evaluate.svg_rgb=svg_rgb-{settings.dataset}:latest"
        reason = Unavailable("evaluate.svg_rgb names no videos.", f"{train}, then {then}")
        return comparison.with_missing(Missing(("SVG-LP on RGB",), reason))
    videos = VideoSet(artifacts.svg_rgb.path)
    found = {(v.id, v.context, v.horizon) for v in videos.clips}
    wanted = {(c.id, c.context, c.horizon) for c in comparison.clips}
    if videos.header.size != comparison.data.size or not wanted <= found:
        raise ConfigError(
            f"evaluate.svg_rgb={settings.svg_rgb} shows other clips than those evaluated "
            f"({len(wanted - found)} of {len(wanted)} are missing), or frames of another size; "
            "make it with the same dataset settings"
        )
    return comparison.with_baseline("frames", SVG_RGB, _videos_of(videos, "sample"))
