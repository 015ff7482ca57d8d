"""Gathers what stage `evaluate` compares, from the artifacts or the folder of the config."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.artifacts.predictions import PredictedClip, PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.artifacts.videos import Kind, VideoSet
from hvp.clips import Channel
from hvp.data.datamodule import ClipDataModule
from hvp.errors import ArtifactError, ConfigError
from hvp.evaluation.curves import ORACLE, RECONSTRUCTION, SVG_RGB
from hvp.evaluation.folder import PREFIX, FolderPredictions, write_clip_list
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.reconstruction import Reconstructor
from hvp.evaluation.results import NotComputed
from hvp.evaluation.streams import Stream
from hvp.stages.evaluate.comparison import Inputs, Material, Videos
from hvp.structure.svg_lp.module import StructureModule
from hvp.training.dataset import (
    IMAGE_CHANNELS,
    STRUCTURE_CHANNELS,
    build_datamodule,
    check_same_data,
    has_frames,
    stream_clip,
)
from hvp.training.fit import load_weights, named_checkpoint


def open_inputs(config: DictConfig, store: ArtifactStore) -> Inputs:
    """Fetch the artifacts that the config names."""
    own = config.evaluate.predictions is None
    wanted = (
        (config.predictions if own else None, ArtifactType.PREDICTIONS),
        (config.videos if own else None, ArtifactType.VIDEOS),
        (config.evaluate.svg_rgb, ArtifactType.VIDEOS),
    )
    return Inputs(*(None if name is None else store.fetch(name, type) for name, type in wanted))


def open_material(
    config: DictConfig, store: ArtifactStore, inputs: Inputs, command: str, device: torch.device
) -> Material:
    """Open what is compared and check that its parts belong together.

    Args:
        config: the composed config.
        store: where the lineage of the inputs is looked up.
        inputs: from `open_inputs`.
        command: the command of this evaluation, for what is missing.
        device: where the structure model reconstructs.

    Raises:
        ConfigError: the predictions were made from other data than the dataset of this config, or
            the videos from other predictions.
        DataError: a folder of predictions is not of the documented layout.
    """
    if inputs.predictions is None:
        return _open_folder(config, store, inputs)
    datamodule = build_datamodule(
        config, "structure", STRUCTURE_CHANNELS if inputs.videos is None else IMAGE_CHANNELS
    )
    datamodule.prepare_data()
    predictions = PredictionSet(inputs.predictions.path)
    check_same_data(config, predictions, datamodule.data)
    protocol = _protocol(config, datamodule, inputs, predictions.clips, predictions.header.seed)
    protocol = replace(protocol, checkpoints=_checkpoints(store, inputs))
    material = Material(datamodule.data, predictions.clips, protocol, predictions.streams, None)
    material = _with_reconstruction(config, store, inputs.predictions, material, command, device)
    if inputs.videos is None:
        made = f"python run.py stage=image dataset={config.dataset.name}"
        return _with(
            material, NotComputed("PSNR and SSIM", "No translated videos (videos=null).", made)
        )
    videos = VideoSet(inputs.videos.path)
    if videos.header.predictions != inputs.predictions.reference:
        raise ConfigError(
            f"videos={config.videos} translate {videos.header.predictions}, but predictions="
            f"{config.predictions} is {inputs.predictions.reference}; name a pair that belongs "
            "together"
        )
    baselines = {ORACLE: _videos_of(videos, "oracle")}
    material = replace(material, frames=_videos_of(videos, "sample"), frame_baselines=baselines)
    return _with_svg_rgb(config, inputs, material)


def _videos_of(videos: VideoSet, kind: Kind) -> Videos:
    def of_clip(clip: PredictedClip) -> list[Stream]:
        return [videos.frames(video) for video in videos.of(clip.clip, kind)]

    return of_clip


def _open_folder(config: DictConfig, store: ArtifactStore, inputs: Inputs) -> Material:
    source = str(config.evaluate.predictions)
    datamodule = build_datamodule(config, "structure", STRUCTURE_CHANNELS)
    channels = IMAGE_CHANNELS if has_frames(datamodule) else STRUCTURE_CHANNELS
    datamodule = build_datamodule(config, "structure", channels)
    datamodule.prepare_data()
    rules = datamodule.rules
    clips = [PredictedClip(c, rules.n_past, rules.n_eval, samples=1) for c in datamodule.eval_clips]
    write_clip_list(Path(config.output_dir) / "clips.csv", clips)
    data = datamodule.data
    folder = FolderPredictions(
        Path(source.removeprefix(PREFIX)), clips, data.size, data.label_space
    )
    if folder.has_frames and "frames" not in channels:
        raise ConfigError(
            f"evaluate.predictions={source}: holds RGB, but dataset={config.dataset.name} has none "
            "to compare it with"
        )
    clips = [replace(clip, samples=folder.n_samples) for clip in clips]

    def behind_context(channel: Channel, videos: Videos) -> Videos:
        def of_clip(clip: PredictedClip) -> list[Stream]:
            return [
                chain(islice(stream_clip(data, channel, clip), clip.context), video)
                for video in videos(clip)
            ]

        return of_clip

    origin = f"{source} (sha256 {folder.digest()[:16]})"
    protocol = _protocol(config, datamodule, inputs, clips, None)
    material = Material(
        data,
        clips,
        replace(
            protocol,
            artifacts=(origin, *protocol.artifacts),
            checkpoints=_checkpoints(store, inputs),
        ),
        behind_context("labels", folder.labels) if folder.has_labels else None,
        behind_context("frames", folder.frames) if folder.has_frames else None,
    )
    needs_the_model = "Posterior reconstruction, NLL, KL and RGB of true labels"
    why = "The model that made a folder of predictions is not at hand."
    material = _with(material, NotComputed(needs_the_model, why))
    return _with_svg_rgb(config, inputs, material) if folder.has_frames else material


def _protocol(
    config: DictConfig,
    datamodule: ClipDataModule,
    inputs: Inputs,
    clips: Sequence[PredictedClip],
    seed: int | None,
) -> Protocol:
    first = clips[0]
    return Protocol(
        dataset=config.dataset.name,
        split="test",
        height=datamodule.size[0],
        width=datamodule.size[1],
        frame_step=first.clip.step,
        n_clips=len(clips),
        n_samples=first.samples,
        context=first.context,
        horizon=first.horizon,
        trained_horizon=config.dataset.rules.n_future,
        seed=seed,
        artifacts=inputs.references,
    )


def _checkpoints(store: ArtifactStore, inputs: Inputs) -> tuple[str, ...]:
    """The weights behind the inputs; those from outside the store by the SHA-256 of their file."""
    found: list[str] = []
    sets = (
        (inputs.predictions, PredictionSet), (inputs.videos, VideoSet), (inputs.svg_rgb, VideoSet)
    )  # fmt: skip
    for artifact, open_set in sets:
        if artifact is None:
            continue
        ancestors = store.lineage(artifact.reference)
        named = [
            ancestor.reference
            for ancestor in ancestors
            if ancestor.type is ArtifactType.CHECKPOINT and ancestor.reference in artifact.inputs
        ]
        digest = open_set(artifact.path).header.checkpoint_digest
        found += named or [f"{artifact.name} (sha256 {digest[:16]})"] * bool(digest)
    return tuple(found)


def _with(material: Material, item: NotComputed) -> Material:
    return replace(material, missing=(*material.missing, item))


def _with_reconstruction(
    config: DictConfig,
    store: ArtifactStore,
    artifact: Artifact,
    material: Material,
    command: str,
    device: torch.device,
) -> Material:
    """Add the posterior reconstruction where the predictions' checkpoint can be had."""
    header = PredictionSet(artifact.path).header
    own = [a for a in store.lineage(artifact.reference) if a.type is ArtifactType.CHECKPOINT]
    try:
        if not config.evaluate.reconstruction:
            raise ConfigError("evaluate.reconstruction is false")
        if config.checkpoint is None and not own:
            raise ConfigError(
                f"{artifact.reference} was not made from a checkpoint in the artifact store"
            )
        path, _ = named_checkpoint(config.checkpoint or own[0].reference, store)
        module: StructureModule = instantiate(
            config.model.structure.module,
            rollout_skip=header.sampling.get("skip", config.dataset.rollout.skip),
            _convert_="all",
        )
        found = load_weights(module, path)
        if found != header.checkpoint_digest:
            raise ConfigError(
                f"{path} is not the checkpoint of {artifact.reference} (SHA-256 {found[:12]}, "
                f"expected {header.checkpoint_digest[:12]})"
            )
    except (ConfigError, ArtifactError) as error:
        what = "Posterior reconstruction, NLL and KL"
        wanted = f"{command} evaluate.reconstruction=true checkpoint=..."
        return _with(material, NotComputed(what, f"{error}.", wanted))
    reconstructor = Reconstructor(
        module.to(device), material.protocol, config.seed, material.measured
    )

    def of_clip(clip: PredictedClip) -> list[Stream]:
        return [reconstructor.stream(clip.clip, material.truth("labels", clip))]

    baselines = {**material.label_baselines, RECONSTRUCTION: of_clip}
    return replace(material, label_baselines=baselines, reconstructor=reconstructor)


def _with_svg_rgb(config: DictConfig, inputs: Inputs, material: Material) -> Material:
    """Add the videos of SVG-LP on RGB where they are named."""
    if inputs.svg_rgb is None:
        train = f"python run.py stage=svg_rgb dataset={config.dataset.name}"
        then = f"evaluate.svg_rgb=svg_rgb-{config.dataset.name}:latest"
        return _with(
            material,
            NotComputed(
                "SVG-LP on RGB", "evaluate.svg_rgb names no videos.", f"{train}, then {then}"
            ),
        )
    videos = VideoSet(inputs.svg_rgb.path)
    found = {(v.clip, v.context, v.horizon) for v in videos.clips}
    wanted = {(c.clip, c.context, c.horizon) for c in material.clips}
    if videos.header.size != material.data.size or not wanted <= found:
        raise ConfigError(
            f"evaluate.svg_rgb={config.evaluate.svg_rgb} shows other clips than those evaluated "
            f"({len(wanted - found)} of {len(wanted)} are missing), or frames of another size; "
            "make it with the same dataset settings"
        )
    baselines = {**material.frame_baselines, SVG_RGB: _videos_of(videos, "sample")}
    return replace(material, frame_baselines=baselines)
