"""Stage `svg_rgb`: the baseline without structure; train SVG-LP on RGB, predict the test clips.

Shapes: B batch, S samples, T time, H height, W width.
"""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import Subset

from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.artifacts.videos import TranslatedVideo, VideoHeader, VideoSetWriter
from hvp.data.clips import ClipBatch, collate
from hvp.data.datamodule import ClipDataModule, ClipDataset
from hvp.files import settings_digest
from hvp.log import say
from hvp.stages.clips import IMAGE_CHANNELS, build_datamodule, publish_dataset
from hvp.stages.settings import predict_settings
from hvp.stages.training import (
    find_checkpoint,
    find_fitted,
    fit,
    load_weights,
    open_store,
    predict,
    publish,
)
from hvp.structure.rgb import PixelModule


def run(config: DictConfig) -> None:
    """Do what `fit` and `predict` ask for; what exists for the same settings is not done again."""
    store = open_store(config)
    datamodule = build_datamodule(config, "svg_rgb", IMAGE_CHANNELS)
    datamodule.prepare_data()
    dataset = publish_dataset(config, datamodule, store).reference
    pl.seed_everything(config.seed, workers=True, verbose=False)
    if config.fit:
        fit(config, store, _build_module(config), datamodule, [dataset])
    if config.predict:
        # A new one: the trained one may be in pieces on several devices.
        predict_videos(config, store, _build_module(config), datamodule, dataset)


def _build_module(config: DictConfig) -> PixelModule:
    module: PixelModule = instantiate(
        config.model.svg_rgb.module,
        rollout_skip=config.dataset.rollout.skip,
        seed=config.seed,
        _convert_="all",
    )
    return module


def find_published(config: DictConfig, store: ArtifactStore) -> Artifact | None:
    """What this stage would publish last with this config, if it exists already."""
    fitted = find_fitted(config, store)
    if fitted is None or not config.predict:
        return fitted
    digest = settings_digest(predict_settings(config, [fitted.reference]))
    return store.find(_name(config), ArtifactType.VIDEOS, digest)


def _name(config: DictConfig) -> str:
    return f"svg_rgb-{config.dataset.name}"


def predict_videos(
    config: DictConfig,
    store: ArtifactStore,
    module: PixelModule,
    datamodule: ClipDataModule,
    dataset: str,
) -> None:
    """Sample futures of every test clip and publish them as a video set."""
    checkpoint, inputs = find_checkpoint(config, store)
    digest = load_weights(module, checkpoint)
    settings = predict_settings(config, inputs or [digest])
    found = store.find(_name(config), ArtifactType.VIDEOS, settings_digest(settings))
    if found is not None and not config.force:
        say(f"svg_rgb: predicted for these settings, {found.reference}")
        return
    rules, data = datamodule.rules, datamodule.data
    header = VideoHeader(
        predictions="",
        checkpoint_digest=digest,
        dataset=config.dataset.name,
        settings_digest=settings_digest(settings),
        size=data.size,
        fps=config.evaluate.fps,
        seed=config.seed,
    )
    videos = [
        [
            TranslatedVideo(*clip, rules.n_past, rules.n_eval, "sample", sample)
            for sample in range(config.dataset.rollout.samples)
        ]
        for clip in datamodule.eval_clips
    ]
    folder = Path(config.output_dir) / f"videos-{settings_digest(settings)[:12]}"
    writer = VideoSetWriter(folder, header, [video for of_clip in videos for video in of_clip])
    contexts = ClipDataset(data, datamodule.eval_clips, rules.n_past, IMAGE_CHANNELS)
    todo = [i for i, v in enumerate(videos) if config.force or not all(map(writer.done, v))]
    step = VideoSampler(module, writer, config.seed)
    batch_size = config.model.svg_rgb.eval_batch_size
    trainer = predict(config, step, Subset(contexts, todo), batch_size, collate)
    if trainer.is_global_zero:
        writer.close()
        lineage = [*inputs, dataset]
        publish(config, folder, store, _name(config), "videos", settings, lineage, {})
    trainer.strategy.barrier("videos published")


class VideoSampler(pl.LightningModule):
    """Prediction step: sample the futures of a batch of clips and write them frame by frame."""

    def __init__(self, module: PixelModule, writer: VideoSetWriter, seed: int) -> None:
        super().__init__()
        self.module = module
        self.writer = writer
        self.seed = seed
        self.videos: dict[str, list[TranslatedVideo]] = {}
        for video in writer.clips:
            self.videos.setdefault(video.id, []).append(video)

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> int:
        """Roll out every clip of `batch` (frames: the context); returns how many."""
        context_BT3HW = self.module.clips_of(batch)
        videos = [self.videos[str(identity)] for identity in batch.ids]
        n_samples, horizon = len(videos[0]), videos[0][0].horizon
        with ExitStack() as stack:
            appends = [
                stack.enter_context(self.writer.open(video)) for group in videos for video in group
            ]

            def write(frames_BS3HW: Tensor) -> None:
                frames = frames_BS3HW.flatten(0, 1).permute(0, 2, 3, 1).cpu().numpy()
                for append, frame in zip(appends, frames, strict=True):
                    append(np.ascontiguousarray(frame))

            for frame_B3HW in context_BT3HW.unbind(1):
                write(frame_B3HW[:, None].expand(-1, n_samples, -1, -1, -1))
            for frames in self.module.stream_futures(batch, horizon, n_samples, self.seed):
                write(frames)
        return len(batch)
