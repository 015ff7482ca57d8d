"""Stage `structure`: train the structure generator, then predict label maps of the test clips.

Shapes: B batch, S samples, T time, H height, W width.
"""

from contextlib import ExitStack
from pathlib import Path

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import Subset

from hvp.artifacts.predictions import PredictedClip, PredictionHeader, PredictionSetWriter
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.data.clip_dataset import ClipDataset
from hvp.data.clips import ClipBatch, ClipId, collate
from hvp.data.datamodule import ClipDataModule
from hvp.files import settings_digest
from hvp.log import say
from hvp.stages.clips import STRUCTURE_CHANNELS, build_datamodule, publish_dataset
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
from hvp.structure.module import StructureModule


def run(config: DictConfig) -> None:
    """Do what `fit` and `predict` ask for; what exists for the same settings is not done again."""
    store = open_store(config)
    datamodule = build_datamodule(config, "structure", STRUCTURE_CHANNELS)
    datamodule.prepare_data()
    dataset = publish_dataset(config, datamodule, store).reference
    pl.seed_everything(config.seed, workers=True, verbose=False)
    if config.fit:
        fit(config, store, _build_module(config), datamodule, [dataset])
    if config.predict:
        # A new one: the trained one may be in pieces on several devices.
        predict_clips(config, store, _build_module(config), datamodule, dataset)


def _build_module(config: DictConfig) -> StructureModule:
    module: StructureModule = instantiate(
        config.model.structure.module,
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
    return _find_predictions(config, store, [fitted.reference])


def _name(config: DictConfig) -> str:
    return f"structure-{config.dataset.name}"


def _find_predictions(
    config: DictConfig, store: ArtifactStore, inputs: list[str]
) -> Artifact | None:
    digest = settings_digest(predict_settings(config, inputs))
    return store.find(_name(config), ArtifactType.PREDICTIONS, digest)


def predict_clips(
    config: DictConfig,
    store: ArtifactStore,
    module: StructureModule,
    datamodule: ClipDataModule,
    dataset: str,
) -> None:
    """Sample futures of every test clip and publish them as a prediction set."""
    checkpoint, inputs = find_checkpoint(config, store)
    digest = load_weights(module, checkpoint)
    settings = predict_settings(config, inputs or [digest])
    found = _find_predictions(config, store, inputs or [digest])
    if found is not None and not config.force:
        say(f"structure: predicted for these settings, {found.reference}")
        return
    rules, rollout = datamodule.rules, config.dataset.rollout
    data = datamodule.data
    header = PredictionHeader(
        dataset=config.dataset.name,
        dataset_digest=data.digest,
        label_space=data.label_space,
        size=data.size,
        frame_step=rules.step,
        checkpoint_digest=digest,
        sampling={"samples": rollout.samples, "skip": rollout.skip},
        seed=config.seed,
    )
    clips = [
        PredictedClip(c.recording, c.first, c.step, rules.n_past, rules.n_eval, rollout.samples)
        for c in datamodule.eval_clips
    ]
    folder = Path(config.output_dir) / f"predictions-{settings_digest(settings)[:12]}"
    writer = PredictionSetWriter(folder, header, clips)
    contexts = ClipDataset(data, datamodule.eval_clips, rules.n_past, STRUCTURE_CHANNELS)
    todo = [i for i, clip in enumerate(clips) if config.force or not writer.done(clip)]
    batch_size = config.model.structure.eval_batch_size
    step = FutureSampler(module, writer, config.seed)
    trainer = predict(config, step, Subset(contexts, todo), batch_size, collate)
    if trainer.is_global_zero:
        writer.close()
        lineage = [*inputs, dataset]
        publish(config, folder, store, _name(config), "predictions", settings, lineage, {})
    trainer.strategy.barrier("predictions published")


class FutureSampler(pl.LightningModule):
    """Prediction step of stage one: sample the futures of a clip and write them."""

    def __init__(self, module: StructureModule, writer: PredictionSetWriter, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.module = module
        self.writer = writer
        self.clips = {ClipId(c.recording, c.first, c.step): c for c in writer.clips}

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> int:
        """Roll out every clip of `batch` (labels: the context); returns how many."""
        clips = [self.clips[identity] for identity in batch.ids]
        n_samples, horizon = clips[0].samples, clips[0].horizon
        with ExitStack() as stack:
            appends = [stack.enter_context(self.writer.open(clip)) for clip in clips]

            def write(labels_BSHW: Tensor) -> None:
                frames = labels_BSHW.cpu().numpy()
                for append, frames_SHW in zip(appends, frames, strict=True):
                    append(frames_SHW)

            for labels_BHW in batch.labels_BTHW.unbind(1):
                write(labels_BHW[:, None].expand(-1, n_samples, -1, -1))
            for labels_BSHW in self.module.stream_futures(batch, horizon, n_samples, self.seed):
                write(labels_BSHW)
        return len(batch)
