"""TrainedStage: the one road of every stage that trains a model and predicts with it.

    find -> fit -> publish weights -> load -> find -> predict -> write -> publish predictions

What exists for the same settings is not done again; what was begun is gone on with. A stage says
only what it predicts and how that is written.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from hvp.artifacts.publication import Publication
from hvp.artifacts.rank_store import RankStore
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.clips import Channel
from hvp.config.build import build_datamodule, build_model, build_store, model_class
from hvp.config.digests import fit_settings
from hvp.config.settings import Recipe, TrainingSettings
from hvp.data.datamodule import ClipDataModule
from hvp.data.sampler import ClipSampler
from hvp.errors import ConfigError
from hvp.log import say, world_size
from hvp.model import Model
from hvp.training.dataset import publish_dataset
from hvp.training.fit import fit
from hvp.training.resume import random_state, set_random_state
from hvp.training.trainer import build_trainer
from hvp.training.weights import Weights, find_weights, load_state, model_recipe, read_checkpoint


@dataclass(frozen=True)
class PredictionRequest:
    """What a set of predictions is made with."""

    model: Model
    checkpoint_digest: str
    """SHA-256 of the checkpoint file."""
    settings_digest: str
    """Of everything the predictions depend on."""
    folder: Path
    """Where the set is made."""
    sources: tuple[Artifact, ...]
    """The artifacts that are predicted from, beside the dataset."""


@dataclass(frozen=True)
class PredictionJob:
    """The items to predict, and who predicts and writes them."""

    step: pl.LightningModule
    """Its `predict_step` predicts an item and writes it."""
    items: Dataset[Any]
    """What is not written yet."""
    batch_size: int
    collate: Callable[[list[Any]], Any]
    close: Callable[[], None]
    """Ends the set, which is complete then."""


class TrainedStage(ABC):
    """Stage that trains a model and predicts with it."""

    type: ClassVar[ArtifactType]
    """What it publishes beside its weights."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings

    # -- what a stage says of itself --------------------------------------------------------

    @property
    @abstractmethod
    def channels(self) -> Sequence[Channel]:
        """What prediction reads of the clips."""

    def sources(self) -> tuple[Artifact, ...]:
        """The artifacts that are predicted from, beside the dataset; looked up, not fetched.

        Raises:
            ArtifactError: one of them does not exist.
        """
        return ()

    @abstractmethod
    def open_predictions(self, request: PredictionRequest) -> PredictionJob:
        """Open the set of predictions, or go on with the one that was begun."""

    # -- the road ---------------------------------------------------------------------------

    def run(self) -> None:
        """Do what `fit` and `predict` ask for."""
        settings = self.settings
        pl.seed_everything(settings.seed, workers=True, verbose=False)
        if settings.predict:
            self.sources()  # what is missing is said before training
        if settings.fit:
            self.fit()
        if settings.predict:
            self.predict()

    def find_published(self) -> Artifact | None:
        """What this stage would publish last with these settings, if it exists already."""
        weights = self._weights.find(self.store)
        if weights is None or not self.settings.predict:
            return weights
        recipe = self.settings.model.module
        return self._predictions(recipe, (weights.reference,), self.sources()).find(self.store)

    def find_metrics(self) -> dict[str, float] | None:
        """The validation metrics of the weights for these settings; None where there are none."""
        weights = self._weights.find(self.store)
        return None if weights is None else dict(weights.metadata.get("metrics", {}))

    def fit(self) -> None:
        """Train the model and publish its weights, unless that is done for the same settings."""
        settings, weights = self.settings, self._weights
        found = weights.find(self.store)
        if found is not None and not settings.force:
            say(f"{settings.stage}: trained for these settings, {found.reference}")
            return
        model = build_model(settings.model.module, settings.seed)
        model.prepare_training()
        datamodule, state = self._datamodule(model.train_channels), random_state()
        datamodule.prepare_data()
        set_random_state(state)  # whether the data was prepared just now or before
        inputs = [publish_dataset(settings.dataset, datamodule, self.store).reference]
        inputs += [] if self._start is None else self._start.references
        fitted = fit(settings, model, datamodule, self._start, weights.digest)
        if fitted.trainer.is_global_zero:
            with fitted.folder() as folder:
                publication = replace(weights, inputs=tuple(inputs))
                publication.publish(self.store, folder, settings.aliases, fitted.metadata)
        fitted.trainer.strategy.barrier("checkpoint published")

    def predict(self) -> None:
        """Predict the test clips and publish them, unless that is done for the same settings."""
        settings, weights = self.settings, self._find_weights()
        checkpoint, sources = read_checkpoint(weights.path), self.sources()
        recipe = self._recipe(checkpoint, weights)
        known_by = weights.references or (weights.digest,)
        publication = self._predictions(recipe, known_by, sources)
        found = publication.find(self.store)
        if found is not None and not settings.force:
            say(f"{settings.stage}: predicted for these settings, {found.reference}")
            return
        datamodule = self.datamodule
        datamodule.prepare_data()
        dataset = publish_dataset(settings.dataset, datamodule, self.store)
        # A new model: the trained one may be in pieces on several devices.
        model = build_model(recipe, settings.seed)
        load_state(model, checkpoint["state_dict"], weights.path)
        del checkpoint
        fetched = tuple(self.store.fetch(source.reference) for source in sources)
        folder = settings.output_dir / f"{self.type}-{publication.digest[:12]}"
        job = self.open_predictions(
            PredictionRequest(model, weights.digest, publication.digest, folder, fetched)
        )
        trainer = _predict(settings, job)
        if trainer.is_global_zero:
            job.close()
            inputs = sources or (dataset,)
            lineage = (*weights.references, *(artifact.reference for artifact in inputs))
            publication = replace(publication, inputs=lineage)
            publication.publish(self.store, folder, settings.aliases)
        trainer.strategy.barrier(f"{self.type} published")

    # -- what it is made from ---------------------------------------------------------------

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifact store; several ranks get from it what rank zero gets."""
        store = build_store(self.settings.store)
        if world_size() == 1:
            return store
        return RankStore(store, self.settings.output_dir / "ranks" / "answers")

    @cached_property
    def datamodule(self) -> ClipDataModule:
        """The clips that are predicted."""
        settings = self.settings
        return build_datamodule(
            settings.data,
            self.channels,
            batch_size=settings.model.batch_size,
            eval_batch_size=settings.model.eval_batch_size,
        )

    def _datamodule(self, channels: Sequence[Channel]) -> ClipDataModule:
        """The clips that are trained on."""
        settings = self.settings
        return build_datamodule(
            settings.data,
            channels,
            settings.clips,
            settings.model.batch_size,
            settings.model.eval_batch_size,
        )

    @cached_property
    def _start(self) -> Weights | None:
        """The checkpoint that a new training starts from."""
        reference = self.settings.checkpoint
        if reference is None or not self.settings.fit:
            return None
        return find_weights(reference, self.store)

    @cached_property
    def _weights(self) -> Publication:
        """The weights that these settings train."""
        settings = self.settings
        return Publication(
            f"{settings.stage}-{settings.dataset}-checkpoint",
            ArtifactType.CHECKPOINT,
            fit_settings(
                dict(settings.training),
                self._datamodule(("labels",)).training_data(),
                None if self._start is None else self._start.digest,
                model_class(settings.model).prediction_options,
            ),
        )

    def _find_weights(self) -> Weights:
        """The weights to predict with.

        Those just fitted; with `fit=false` those that `checkpoint=` names, else those that were
        fitted with the same settings earlier.

        Raises:
            ConfigError: there are none.
        """
        settings = self.settings
        if settings.checkpoint is not None and not settings.fit:
            return find_weights(settings.checkpoint, self.store)
        found = self._weights.find(self.store)
        if found is None:
            raise ConfigError(
                "fit=false, but nothing was trained with these settings yet: give checkpoint=... "
                f"(for example checkpoint={self._weights.name}:latest) or fit=true"
            )
        return find_weights(found.reference, self.store)

    def _recipe(self, checkpoint: Mapping[str, Any], weights: Weights) -> Recipe:
        """The settings of the model to predict with: a named checkpoint brings its own."""
        settings = self.settings
        if settings.fit or settings.checkpoint is None:
            return settings.model.module
        return model_recipe(checkpoint, weights.path, settings.model, settings.command_line)

    def _predictions(
        self, recipe: Recipe, weights: Sequence[str], sources: Sequence[Artifact]
    ) -> Publication:
        """The predictions that these settings and weights make."""
        settings = self.settings
        options = model_class(replace(settings.model, module=recipe)).prediction_options
        return Publication(
            f"{settings.stage}-{settings.dataset}",
            self.type,
            {
                **settings.prediction,
                "data": self.datamodule.data_digest,
                "sampling": {name: recipe[name] for name in options if name in recipe},
                "inputs": [*weights, *(source.reference for source in sources)],
            },
        )


def _predict(settings: TrainingSettings, job: PredictionJob) -> pl.Trainer:
    """Predict every item of a job, each on one rank; returns the Trainer.

    The step writes what it makes; nothing is gathered.
    """
    trainer = build_trainer(settings)
    # A run that goes on may have fewer clips left than ranks.
    job.step.allow_zero_length_dataloader_with_multiple_devices = True
    sampler = ClipSampler(
        cast(Sized, job.items), job.batch_size, trainer.global_rank, trainer.world_size
    )
    loader: DataLoader[Any] = DataLoader(
        job.items, job.batch_size, sampler=sampler, collate_fn=job.collate
    )
    trainer.predict(job.step, loader, return_predictions=False)
    trainer.strategy.barrier("predictions written")
    return trainer
