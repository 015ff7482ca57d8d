"""Stage `image`: train the image generator, then translate stage one's predictions to RGB video.

Shapes: N videos in a batch (the samples of a clip), T time, H height, W width.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from torch.utils.data import Dataset

from hvp.artifacts.predictions import PredictedClip, PredictionSet
from hvp.artifacts.store import Artifact, ArtifactType
from hvp.artifacts.videos import Kind, TranslatedVideo, VideoHeader, VideoSetWriter
from hvp.clips import Channel, ClipBatch
from hvp.config.settings import training_settings
from hvp.data.packed import PreparedDataset
from hvp.errors import ArtifactError, ConfigError
from hvp.image.base import ImageGenerator
from hvp.seeds import derive_seed
from hvp.training.dataset import check_same_data
from hvp.training.estimate import check_space
from hvp.training.trained_stage import PredictionJob, PredictionRequest, TrainedStage


class Image(TrainedStage):
    """Stage two: trains an image generator and translates label predictions with it."""

    type = ArtifactType.VIDEOS
    channels: Sequence[Channel] = ("labels", "frames")

    def __init__(self, config: DictConfig) -> None:
        super().__init__(training_settings(config))

    def sources(self) -> tuple[Artifact, ...]:
        """Label predictions to translate."""
        reference = self.settings.predictions
        try:
            found = self.store.lineage(reference)[0]
        except ArtifactError as error:
            raise ConfigError(
                f"predictions={reference}: there are no label predictions to translate ({error}); "
                "make them with stage=structure, name others, or give predict=false to train alone"
            ) from error
        if found.type is not ArtifactType.PREDICTIONS:
            raise ConfigError(
                f"predictions={reference}: is of type {found.type.value}; expected label "
                "predictions, which stage=structure publishes"
            )
        return (found,)

    def open_predictions(self, request: PredictionRequest) -> PredictionJob:
        """See `TrainedStage`; an item is all samples of a clip, or its true labels."""
        settings, data, model = self.settings, self.datamodule.data, request.model
        if not isinstance(model, ImageGenerator):
            raise ConfigError(
                f"model.{settings.model.key}: {type(model).__name__} is no image generator; "
                f"stage={settings.stage} needs a subclass of ImageGenerator"
            )
        (source,) = request.sources
        predictions = PredictionSet(source.path)
        check_same_data(predictions, data, settings.predictions)
        jobs = Translations(predictions, data)
        header = VideoHeader(
            predictions=source.reference,
            checkpoint_digest=request.checkpoint_digest,
            dataset=settings.dataset,
            settings_digest=request.settings_digest,
            size=predictions.header.size,
            fps=settings.video_fps,
            seed=settings.seed,
        )
        videos = [video for _, of_clip in jobs.all for video in of_clip]
        writer = VideoSetWriter(request.folder, header, videos, anew=settings.force)
        if not settings.force:
            jobs.skip_written(writer)
        if jobs.todo:
            lengths = [video.length for _, of_clip in jobs.todo for video in of_clip]
            first, _ = jobs.todo[0]
            example = data.read("frames", first.clip, first.context)
            asked = f"{settings.stage}: {len(lengths):,} videos"
            check_space(asked, sum(lengths), request.folder, example)
        step = Translator(model, writer, settings.seed)
        return PredictionJob(step, jobs, 1, itemgetter(0), writer.close)


@dataclass
class Translation(ClipBatch):
    """Batch of N videos to translate: the samples of one clip, or its ground truth.

    Labels (N, T, H, W) and frames are those of the context; later label maps are streamed.
    """

    later: Iterator[np.ndarray] = field(default_factory=lambda: iter(()))
    """Label maps (N, H, W) uint8 after the context, in order; read once."""

    videos: tuple[TranslatedVideo, ...] = ()
    """Videos to write, N."""


class Translations(Dataset[Translation]):
    """Dataset of translations: for each clip its samples, then its ground truth (oracle)."""

    def __init__(self, predictions: PredictionSet, data: PreparedDataset) -> None:
        self.predictions = predictions
        self.data = data
        self.all: list[tuple[PredictedClip, tuple[TranslatedVideo, ...]]] = []
        for clip in predictions.clips:
            samples = (_video(clip, clip.horizon, "sample", i) for i in range(clip.samples))
            self.all.append((clip, tuple(samples)))
            horizon = data.recorded_length(clip.clip, clip.length) - clip.context
            if horizon > 0:
                self.all.append((clip, (_video(clip, horizon, "oracle", 0),)))
        self.todo = list(self.all)

    def skip_written(self, writer: VideoSetWriter) -> None:
        """Skip items whose videos are all written."""
        self.todo = [job for job in self.all if not all(map(writer.done, job[1]))]

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> Translation:
        clip, videos = self.todo[index]
        if videos[0].kind == "oracle":
            streams: Sequence[Iterator[np.ndarray]] = [
                self.data.stream("labels", clip.clip, clip.length)
            ]
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


def _video(clip: PredictedClip, horizon: int, kind: Kind, sample: int) -> TranslatedVideo:
    return TranslatedVideo(clip.clip, clip.context, horizon, kind, sample)


class Translator(pl.LightningModule):
    """Prediction step: translate the videos of one item frame by frame and write them."""

    def __init__(self, model: ImageGenerator, writer: VideoSetWriter, seed: int) -> None:
        super().__init__()
        self.model = model
        self.writer = writer
        self.seed = seed

    def predict_step(self, batch: Translation, batch_idx: int) -> int:
        """Translate the videos of `batch`; returns their number."""
        context_NT3HW = batch.frames_BT3HW
        assert context_NT3HW is not None
        device = batch.labels_BTHW.device
        translated = self.model.translate(
            (torch.from_numpy(labels_NHW).to(device) for labels_NHW in batch.later),
            batch.labels_BTHW,
            context_NT3HW,
            [derive_seed(self.seed, video.id, video.kind, video.sample) for video in batch.videos],
        )
        with ExitStack() as stack:
            appends = [stack.enter_context(self.writer.open(video)) for video in batch.videos]
            for frames_N3HW in chain(context_NT3HW.cpu().unbind(1), translated):
                for append, frame_HW3 in zip(appends, frames_N3HW.permute(0, 2, 3, 1), strict=True):
                    append(np.ascontiguousarray(frame_HW3.numpy()))
        return len(batch)
