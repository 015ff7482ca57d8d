"""Stage `image`: train the image generator, then translate stage one's predictions to RGB video.

Shapes: N videos side by side (the samples of a clip), T time, H height, W width.
"""

from contextlib import ExitStack
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
from hvp.data.clips import ClipBatch, ClipId
from hvp.data.packed import PreparedDataset
from hvp.files import settings_digest
from hvp.image.module import ImageModule
from hvp.image.translate import translate
from hvp.log import say
from hvp.stages.clips import IMAGE_CHANNELS, build_datamodule, check_same_data, publish_dataset
from hvp.stages.settings import predict_settings
from hvp.stages.training import (
    find_checkpoint,
    find_fitted,
    fit,
    load_weights,
    predict,
    publish,
)


def run(config: DictConfig) -> None:
    """Do what `fit` and `predict` ask for; what exists for the same settings is not done again."""
    store = instantiate(config.artifacts)
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
        fit(config, store, module, datamodule, [dataset], reload_dataloaders_every_n_epochs=1)
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
    jobs = Translations(
        predictions, datamodule.data, config.translate.samples, config.translate.ground_truth
    )
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
    writer = VideoSetWriter(folder, header, [video for job in jobs.all for video in job])
    if not config.force:
        jobs.leave_out_done(writer)
    trainer = predict(config, Translator(module, writer, jobs), jobs, batch_size=1)
    if trainer.is_global_zero:
        writer.close()
        publish(folder, store, _name(config), "videos", settings, [*inputs, source.reference], {})
    trainer.strategy.barrier("videos published")


class Translations(Dataset[ClipBatch]):
    """What is to be translated: per item the samples of one clip, or its ground truth.

    An item is a `ClipBatch` of N rows, one per video: labels (N, T, H, W) of context and horizon,
    frames of the context only.
    """

    def __init__(
        self,
        predictions: PredictionSet,
        data: PreparedDataset,
        n_samples: int | None,
        ground_truth: bool,
    ) -> None:
        self.predictions = predictions
        self.data = data
        self.all: list[list[TranslatedVideo]] = []
        for clip in predictions.clips:
            samples = range(clip.samples if n_samples is None else min(n_samples, clip.samples))
            self.all.append([_video(clip, clip.horizon, "sample", i) for i in samples])
            horizon = len(self._truth(clip)) - clip.context
            if ground_truth and horizon > 0:
                self.all.append([_video(clip, horizon, "oracle", 0)])
        self.todo = list(self.all)

    def leave_out_done(self, writer: VideoSetWriter) -> None:
        """Keep only the items of which a video is missing."""
        self.todo = [job for job in self.all if not all(map(writer.done, job))]

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> ClipBatch:
        videos = self.todo[index]
        clip = next(c for c in self.predictions.clips if c.id == videos[0].id)
        if videos[0].kind == "oracle":
            labels_NTHW = self._truth(clip)[None]
        else:
            labels_NTHW = self.predictions.samples(clip)[[video.sample for video in videos]]
        identity = ClipId(clip.recording, clip.first, clip.step)
        context = torch.from_numpy(self.data.read("frames", identity, clip.context))
        return ClipBatch(
            torch.from_numpy(labels_NTHW),
            [identity] * len(videos),
            context.expand(len(videos), *context.shape),
        )

    def _truth(self, clip: PredictedClip) -> np.ndarray:
        identity = ClipId(clip.recording, clip.first, clip.step)
        return self.data.read("labels", identity, clip.length)


def _video(
    clip: PredictedClip, horizon: int, kind: Literal["sample", "oracle"], sample: int
) -> TranslatedVideo:
    place = (clip.recording, clip.first, clip.step, clip.context)
    return TranslatedVideo(*place, horizon, kind, sample)


class Translator(pl.LightningModule):
    """Prediction step of stage two: translate the videos of one item and write them."""

    def __init__(self, module: ImageModule, writer: VideoSetWriter, jobs: Translations) -> None:
        super().__init__()
        self.module = module
        self.writer = writer
        self.jobs = jobs

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> int:
        """Translate every row of `batch` frame by frame; returns how many."""
        assert batch.frames_BT3HW is not None
        context_NT3HW = batch.frames_BT3HW
        n_context = context_NT3HW.shape[1]
        length = batch.labels_BTHW.shape[1]
        videos = next(
            job
            for job in self.jobs.todo
            if job[0].id == str(batch.ids[0]) and job[0].length == length and len(job) == len(batch)
        )
        frames = translate(
            self.module.generator,
            batch.labels_BTHW[:, n_context:].unbind(1),
            batch.labels_BTHW[:, :n_context],
            context_NT3HW,
        )
        with ExitStack() as stack:
            appends = [stack.enter_context(self.writer.open(video)) for video in videos]
            for t in range(length):
                images_N3HW = context_NT3HW[:, t].cpu() if t < n_context else next(frames)
                for append, image_HW3 in zip(appends, images_N3HW.permute(0, 2, 3, 1), strict=True):
                    append(np.ascontiguousarray(image_HW3.numpy()))
        return len(batch)
