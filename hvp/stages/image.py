"""Stage `image`: train the image generator, then translate stage one's predictions to RGB video.

Shapes: N videos side by side (the samples of a clip), T time, H height, W width.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.utils.data import Dataset

from hvp.artifacts.predictions import PredictedClip, PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.artifacts.videos import TranslatedVideo, VideoHeader, VideoSetWriter
from hvp.clips import ClipBatch
from hvp.config.digests import predict_settings
from hvp.data.packed import PreparedDataset
from hvp.files import settings_digest
from hvp.image.vid2vid.module import ImageModule
from hvp.image.vid2vid.translate import translate
from hvp.log import say
from hvp.training.dataset import (
    IMAGE_CHANNELS,
    build_datamodule,
    check_same_data,
    publish_dataset,
    recorded_frames,
    stream_clip,
)
from hvp.training.ema import exponential_mean
from hvp.training.fit import (
    find_checkpoint,
    find_fitted,
    fit,
    load_weights,
    open_store,
    predict,
    publish,
)


def run(config: DictConfig) -> None:
    """Do what `fit` and `predict` ask for; what exists for the same settings is not done again."""
    store = open_store(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    teacher = instantiate(config.flow)
    module: ImageModule = instantiate(
        config.model.image.module, flow_teacher=teacher, _convert_="all"
    )
    if config.fit:
        channels = (*IMAGE_CHANNELS, "flow") if teacher.needs_exact_flow else IMAGE_CHANNELS
        datamodule = build_datamodule(config, "image", channels)
        datamodule.prepare_data()
        dataset = publish_dataset(config, datamodule, store).reference
        fit(
            config,
            store,
            module,
            datamodule,
            [dataset],
            reload_dataloaders_every_n_epochs=1,
            callbacks=exponential_mean(config.model.image.ema_decay),
        )
    if config.predict:
        translate_predictions(config, store, module)


def find_published(config: DictConfig, store: ArtifactStore) -> Artifact | None:
    """What this stage would publish last with this config, if it exists already."""
    fitted = find_fitted(config, store)
    if fitted is None or not config.predict:
        return fitted
    predictions = store.lineage(config.predictions)[0]
    settings = predict_settings(config, [fitted.reference, predictions.reference])
    return store.find(_name(config), ArtifactType.VIDEOS, settings_digest(settings))


def _name(config: DictConfig) -> str:
    return f"image-{config.dataset.name}"


def translate_predictions(config: DictConfig, store: ArtifactStore, module: ImageModule) -> None:
    """Translate stage one's label maps, and the true ones, to RGB; publish them as a video set."""
    checkpoint, inputs = find_checkpoint(config, store)
    digest = load_weights(module, checkpoint)
    source = store.fetch(config.predictions, ArtifactType.PREDICTIONS)
    settings = predict_settings(config, [*(inputs or [digest]), source.reference])
    found = store.find(_name(config), ArtifactType.VIDEOS, settings_digest(settings))
    if found is not None and not config.force:
        say(f"image: translated for these settings, {found.reference}")
        return
    datamodule = build_datamodule(config, "structure", IMAGE_CHANNELS)
    datamodule.prepare_data()
    predictions = PredictionSet(source.path)
    check_same_data(config, predictions, datamodule.data)
    jobs = Translations(predictions, datamodule.data)
    header = VideoHeader(
        predictions=source.reference,
        checkpoint_digest=digest,
        dataset=config.dataset.name,
        settings_digest=settings_digest(settings),
        size=predictions.header.size,
        fps=config.evaluate.fps,
        seed=config.seed,
    )
    folder = Path(config.output_dir) / f"videos-{settings_digest(settings)[:12]}"
    writer = VideoSetWriter(folder, header, [v for _, videos in jobs.all for v in videos])
    if not config.force:
        jobs.leave_out_done(writer)
    trainer = predict(config, Translator(module, writer), jobs, 1, itemgetter(0))
    if trainer.is_global_zero:
        writer.close()
        lineage = [*inputs, source.reference]
        publish(config, folder, store, _name(config), ArtifactType.VIDEOS, settings, lineage, {})
    trainer.strategy.barrier("videos published")


@dataclass
class Translation(ClipBatch):
    """The samples of one clip, or its ground truth, to be translated side by side.

    N rows, one per video: labels (N, T, H, W) and frames of the context; what follows is streamed.
    """

    later: Iterator[np.ndarray] = field(default_factory=lambda: iter(()))
    """Label maps (N, H, W) uint8 behind the context, in order; read once."""

    videos: tuple[TranslatedVideo, ...] = ()
    """The N videos to write."""


class Translations(Dataset[Translation]):
    """Everything there is to translate: for each clip its samples, then its ground truth."""

    def __init__(self, predictions: PredictionSet, data: PreparedDataset) -> None:
        self.predictions = predictions
        self.data = data
        self.all: list[tuple[PredictedClip, tuple[TranslatedVideo, ...]]] = []
        for clip in predictions.clips:
            samples = (_video(clip, clip.horizon, "sample", i) for i in range(clip.samples))
            self.all.append((clip, tuple(samples)))
            horizon = recorded_frames(data, clip) - clip.context
            if horizon > 0:
                self.all.append((clip, (_video(clip, horizon, "oracle", 0),)))
        self.todo = list(self.all)

    def leave_out_done(self, writer: VideoSetWriter) -> None:
        """Keep only the items of which a video is missing."""
        self.todo = [job for job in self.all if not all(map(writer.done, job[1]))]

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> Translation:
        clip, videos = self.todo[index]
        if videos[0].kind == "oracle":
            streams: Sequence[Iterator[np.ndarray]] = [stream_clip(self.data, "labels", clip)]
        else:
            streams = self.predictions.streams(clip)
        labels = map(np.stack, zip(*streams, strict=True))
        labels_TNHW = np.stack(list(islice(labels, clip.context)))
        context = torch.from_numpy(self.data.read("frames", clip.clip, clip.context))
        return Translation(
            torch.from_numpy(labels_TNHW.swapaxes(0, 1)),
            [clip.clip] * len(videos),
            context.expand(len(videos), *context.shape),
            videos=videos,
            later=labels,
        )


def _video(
    clip: PredictedClip, horizon: int, kind: Literal["sample", "oracle"], sample: int
) -> TranslatedVideo:
    return TranslatedVideo(clip.clip, clip.context, horizon, kind, sample)


class Translator(pl.LightningModule):
    """Prediction step of stage two: translate the videos of one item and write them."""

    def __init__(self, module: ImageModule, writer: VideoSetWriter) -> None:
        super().__init__()
        self.module = module
        self.writer = writer

    def predict_step(self, batch: Translation, batch_idx: int) -> int:
        """Translate every row of `batch` frame by frame; returns how many."""
        context_NT3HW = batch.frames_BT3HW
        assert context_NT3HW is not None
        device = batch.labels_BTHW.device
        translated = translate(
            self.module.generator,
            (torch.from_numpy(labels_NHW).to(device) for labels_NHW in batch.later),
            batch.labels_BTHW,
            context_NT3HW,
        )
        with ExitStack() as stack:
            appends = [stack.enter_context(self.writer.open(video)) for video in batch.videos]
            for frames_N3HW in chain(context_NT3HW.cpu().unbind(1), translated):
                for append, frame_HW3 in zip(appends, frames_N3HW.permute(0, 2, 3, 1), strict=True):
                    append(np.ascontiguousarray(frame_HW3.numpy()))
        return len(batch)
