"""What the stages of a recurrent model share: train it, sample futures of test clips, publish.

`structure` does so on label maps, `svg_rgb` on RGB; each says in a `FutureStage` what differs.

Shapes: B batch, S samples, T time, H height, W width; frames are (H, W) labels or (3, H, W) RGB.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor
from torch.utils.data import Subset

from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.clips import Channel, ClipBatch, ClipId, collate
from hvp.config.digests import predict_settings
from hvp.data.clip_dataset import ClipDataset
from hvp.data.datamodule import ClipDataModule
from hvp.files import settings_digest
from hvp.log import say
from hvp.structure.svg_lp.module import StructureModule
from hvp.training.dataset import build_datamodule, publish_dataset
from hvp.training.fit import (
    find_checkpoint,
    find_fitted,
    fit,
    load_weights,
    open_store,
    predict,
    publish,
)


class FutureWriter(Protocol):
    """Where the futures of the test clips are written."""

    def done(self, clip: ClipId) -> bool:
        """Whether all futures of a clip lie there."""
        ...

    def open(self, clips: Sequence[ClipId]) -> AbstractContextManager[Callable[[Tensor], None]]:
        """The function that appends the next frame (B, S, ...) uint8 of all futures of B clips."""
        ...

    def close(self) -> None:
        """End the set, which is complete now."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a set of futures is made with."""

    config: DictConfig
    datamodule: ClipDataModule
    checkpoint_digest: str
    """SHA-256 of the model's checkpoint file."""
    settings_digest: str
    """Of everything the futures depend on."""
    folder: Path
    """Where the set is made."""


@dataclass(frozen=True)
class FutureStage:
    """A stage that trains a recurrent model and samples futures from it."""

    name: str
    """What `stage=` calls it; also its model's key, and the beginning of its artifacts' names."""
    channels: tuple[Channel, ...]
    """What it reads of the clips."""
    type: ArtifactType
    """What it publishes."""
    open_writer: Callable[[Plan], FutureWriter]
    """Opens the set of futures, or goes on with the one that was begun."""

    def run(self, config: DictConfig) -> None:
        """Do what `fit` and `predict` ask for; what exists for the same settings is left alone."""
        store = open_store(config)
        datamodule = build_datamodule(config, self.name, self.channels)
        datamodule.prepare_data()
        dataset = publish_dataset(config, datamodule, store).reference
        pl.seed_everything(config.seed, workers=True, verbose=False)
        if config.fit:
            fit(config, store, self._build_module(config), datamodule, [dataset])
        if config.predict:
            # A new one: the trained one may be in pieces on several devices.
            self._predict(config, store, self._build_module(config), datamodule, dataset)

    def _build_module(self, config: DictConfig) -> StructureModule:
        module: StructureModule = instantiate(
            config.model[self.name].module,
            rollout_skip=config.dataset.rollout.skip,
            seed=config.seed,
            _convert_="all",
        )
        return module

    def find_published(self, config: DictConfig, store: ArtifactStore) -> Artifact | None:
        """What this stage would publish last with this config, if it exists already."""
        fitted = find_fitted(config, store)
        if fitted is None or not config.predict:
            return fitted
        digest = settings_digest(predict_settings(config, [fitted.reference]))
        return store.find(self._name(config), self.type, digest)

    def _name(self, config: DictConfig) -> str:
        return f"{self.name}-{config.dataset.name}"

    def _predict(
        self,
        config: DictConfig,
        store: ArtifactStore,
        module: StructureModule,
        datamodule: ClipDataModule,
        dataset: str,
    ) -> None:
        """Sample futures of every test clip and publish them."""
        checkpoint, inputs = find_checkpoint(config, store)
        digest = load_weights(module, checkpoint)
        settings = predict_settings(config, inputs or [digest])
        found = store.find(self._name(config), self.type, settings_digest(settings))
        if found is not None and not config.force:
            say(f"{self.name}: predicted for these settings, {found.reference}")
            return
        made_with = settings_digest(settings)
        folder = Path(config.output_dir) / f"{self.type}-{made_with[:12]}"
        writer = self.open_writer(Plan(config, datamodule, digest, made_with, folder))
        clips, n_past = datamodule.eval_clips, datamodule.rules.n_past
        contexts = ClipDataset(datamodule.data, clips, n_past, self.channels)
        todo = [i for i, clip in enumerate(clips) if config.force or not writer.done(clip)]
        rollout = datamodule.rules.n_eval, config.dataset.rollout.samples
        step = FutureSampler(module, writer, *rollout, config.seed)
        batch_size = config.model[self.name].eval_batch_size
        trainer = predict(config, step, Subset(contexts, todo), batch_size, collate)
        if trainer.is_global_zero:
            writer.close()
            lineage = [*inputs, dataset]
            publish(config, folder, store, self._name(config), self.type, settings, lineage, {})
        trainer.strategy.barrier(f"{self.type} published")


class FutureSampler(pl.LightningModule):
    """Prediction step: sample the futures of a batch of clips and write them frame by frame."""

    def __init__(
        self,
        module: StructureModule,
        writer: FutureWriter,
        horizon: int,
        n_samples: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.module = module
        self.writer = writer
        self.horizon = horizon
        self.n_samples = n_samples
        self.seed = seed

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> int:
        """Roll out every clip of `batch`, which holds the context; returns how many."""
        context_BT = self.module.clips_of(batch)
        with self.writer.open(batch.ids) as append:
            for frame_B in context_BT.unbind(1):
                append(frame_B.unsqueeze(1).expand(-1, self.n_samples, *frame_B.shape[1:]))
            futures = self.module.stream_futures(batch, self.horizon, self.n_samples, self.seed)
            for frame_BS in futures:
                append(frame_BS)
        return len(batch)
