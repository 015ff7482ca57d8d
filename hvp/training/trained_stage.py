"""TrainedStage: template of every stage that trains a model and predicts with it.

    find -> fit -> publish weights -> load -> find -> predict -> write -> publish predictions

Results that exist for the same settings are reused, unfinished ones resumed. A subclass defines
only what is predicted and how it is written.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import pytorch_lightning as pl
from hydra.errors import InstantiationException
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
from hvp.errors import ArtifactError, ConfigError
from hvp.log import say, world_size
from hvp.model import Model
from hvp.signals import ends_after_a_batch, stop_if_signalled
from hvp.training.dataset import publish_dataset
from hvp.training.failures import failures_as_sentences
from hvp.training.fit import fit
from hvp.training.requeue import in_slurm_job
from hvp.training.resume import get_rng_state, set_rng_state
from hvp.training.trainer import build_trainer
from hvp.training.weights import (
    Weights,
    check_classes,
    find_weights,
    load_state,
    model_recipe,
    read_checkpoint,
)


@dataclass(frozen=True)
class PredictionRequest:
    """Inputs of a set of predictions."""

    model: Model
    checkpoint_digest: str
    """SHA-256 of the checkpoint file."""
    settings_digest: str
    """Digest of everything the predictions depend on."""
    folder: Path
    """Directory of the set."""
    sources: tuple[Artifact, ...]
    """Input artifacts, other than the dataset."""


@dataclass(frozen=True)
class PredictionJob:
    """Arguments of a `Trainer.predict` call, with the function that finishes the set."""

    step: pl.LightningModule
    """LightningModule whose `predict_step` predicts an item and writes it."""
    items: Dataset[Any]
    """Items that are not written yet."""
    batch_size: int
    collate: Callable[[list[Any]], Any]
    close: Callable[[], None]
    """Finishes the set once all items are written."""


class TrainedStage(ABC):
    """Abstract stage that trains a model and predicts with it; see `hvp.launch.stage.Stage`."""

    type: ClassVar[ArtifactType]
    """Artifact type of its predictions."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings

    # -- for subclasses ---------------------------------------------------------------------

    @property
    @abstractmethod
    def channels(self) -> Sequence[Channel]:
        """Channels of the clips that prediction reads."""

    def sources(self) -> tuple[Artifact, ...]:
        """Input artifacts of the predictions, other than the dataset; looked up, not fetched.

        Raises:
            ArtifactError: one does not exist.
        """
        return ()

    @abstractmethod
    def open_predictions(self, request: PredictionRequest) -> PredictionJob:
        """Open the set of predictions, resuming an unfinished one."""

    # -- template ---------------------------------------------------------------------------

    def run(self) -> None:
        """Train and predict, as `fit` and `predict` say."""
        settings = self.settings
        pl.seed_everything(settings.seed, workers=True, verbose=False)
        if settings.predict:
            self.sources()  # fail on missing inputs before training
        if settings.fit:
            self.fit()
        if settings.predict and not self._is_dry_run:
            self.predict()

    @property
    def _is_dry_run(self) -> bool:
        return bool(self.settings.trainer.get("fast_dev_run"))

    def find_published(self) -> Artifact | None:
        """Existing artifact of `run`: predictions, or weights if `predict=false`."""
        weights = self._trained_weights.find(self.store)
        if weights is None or not self.settings.predict:
            return weights
        recipe = self.settings.model.module
        return self._prediction_publication(recipe, (weights.reference,), self.sources()).find(
            self.store
        )

    def find_metrics(self) -> dict[str, float] | None:
        """Validation metrics of the published weights for these settings; None without weights."""
        weights = self._trained_weights.find(self.store)
        return None if weights is None else dict(weights.metadata.get("metrics", {}))

    def fit(self) -> None:
        """Train the model and publish its weights, unless published for the same settings."""
        settings, weights = self.settings, self._trained_weights
        found = weights.find(self.store)
        if found is not None and not settings.force:
            say(f"{settings.stage}: trained for these settings, {found.reference}")
            return
        model = build_model(settings.model.module, settings.seed)
        model.prepare_training()
        datamodule, state = self._training_datamodule(model.train_channels), get_rng_state()
        datamodule.prepare_data()
        set_rng_state(state)  # independent of whether data was prepared now
        inputs = [publish_dataset(settings.dataset, datamodule, self.store).reference]
        inputs += [] if self._initial_weights is None else self._initial_weights.references
        result = fit(settings, model, datamodule, self._initial_weights, weights.digest)
        if self._is_dry_run:
            say(f"{settings.stage}: it runs; trainer.fast_dev_run publishes nothing")
            return
        if result.trainer.is_global_zero:
            with result.folder() as folder:
                publication = replace(weights, inputs=tuple(inputs))
                publication.publish(self.store, folder, settings.aliases, result.metadata)
        result.trainer.strategy.barrier("checkpoint published")

    def predict(self) -> None:
        """Predict the test clips and publish them, unless published for the same settings."""
        settings, weights = self.settings, self._prediction_weights()
        sources = self.sources()
        recipe = self._recipe(weights)
        known_by = weights.references or (weights.digest,)
        publication = self._prediction_publication(recipe, known_by, sources)
        found = publication.find(self.store)
        if found is not None and not settings.force:
            say(f"{settings.stage}: predicted for these settings, {found.reference}")
            return
        datamodule = self.datamodule
        datamodule.prepare_data()
        dataset = publish_dataset(settings.dataset, datamodule, self.store)
        # A new model: the trained one may be sharded.
        checkpoint = read_checkpoint(weights.path)
        model = self._build_to_predict(recipe, checkpoint, weights)
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

    # -- inputs -----------------------------------------------------------------------------

    @cached_property
    def store(self) -> ArtifactStore:
        """Artifact store; with several ranks all get the answers of rank zero."""
        store = build_store(self.settings.store)
        if world_size() == 1:
            return store
        return RankStore(store, self.settings.output_dir / "ranks" / "answers")

    @cached_property
    def datamodule(self) -> ClipDataModule:
        """Data module of the predicted clips."""
        settings = self.settings
        return build_datamodule(
            settings.data,
            self.channels,
            batch_size=settings.model.batch_size,
            eval_batch_size=settings.model.eval_batch_size,
        )

    def _training_datamodule(self, channels: Sequence[Channel]) -> ClipDataModule:
        """Data module of the training clips."""
        settings = self.settings
        return build_datamodule(
            settings.data,
            channels,
            settings.clips,
            settings.model.batch_size,
            settings.model.eval_batch_size,
        )

    @cached_property
    def _initial_weights(self) -> Weights | None:
        """Initial weights of a new training (`checkpoint=`); None trains from scratch."""
        reference = self.settings.checkpoint
        if reference is None or not self.settings.fit:
            return None
        return find_weights(reference, self.store)

    @cached_property
    def _trained_weights(self) -> Publication:
        """Publication of the weights that these settings train."""
        settings = self.settings
        return Publication(
            f"{settings.stage}-{settings.dataset}-checkpoint",
            ArtifactType.CHECKPOINT,
            fit_settings(
                dict(settings.training),
                self._training_datamodule(("labels",)).training_data(),
                None if self._initial_weights is None else self._initial_weights.digest,
                model_class(settings.model).prediction_options,
            ),
        )

    def _prediction_weights(self) -> Weights:
        """Weights to predict with.

        `checkpoint=` if `fit=false`, else those trained with the same settings, now or earlier.

        Raises:
            ConfigError: there are none.
        """
        settings = self.settings
        if settings.checkpoint is not None and not settings.fit:
            return find_weights(settings.checkpoint, self.store)
        found = self._trained_weights.find(self.store)
        if found is None:
            raise ConfigError(
                "fit=false, but nothing was trained with these settings yet: give checkpoint=... "
                f"(for example checkpoint={self._trained_weights.name}:latest) or fit=true"
            )
        return find_weights(found.reference, self.store)

    def _recipe(self, weights: Weights) -> Recipe:
        """Module settings to predict with; a checkpoint given by the user has its own."""
        settings = self.settings
        if settings.fit or settings.checkpoint is None:
            return settings.model.module
        checkpoint = read_checkpoint(weights.path)
        return model_recipe(checkpoint, weights.path, settings.model, settings.command_line)

    def _build_to_predict(
        self, recipe: Recipe, checkpoint: Mapping[str, Any], weights: Weights
    ) -> Model:
        """Build the model of a checkpoint, which must be one for these clips.

        Raises:
            ArtifactError: the checkpoint's settings do not build a model.
            ConfigError: it was trained on clips with other classes.
        """
        check_classes(checkpoint, weights.path, self.datamodule.label_space)
        try:
            return build_model(recipe, self.settings.seed)
        except (InstantiationException, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"{weights.path}: its settings do not build a model ({reason})"
            ) from error

    def _prediction_publication(
        self, recipe: Recipe, weights: Sequence[str], sources: Sequence[Artifact]
    ) -> Publication:
        """Publication of the predictions for these settings and weights."""
        settings = self.settings
        options = model_class(replace(settings.model, module=recipe)).prediction_options
        return Publication(
            f"{settings.stage}-{settings.dataset}",
            self.type,
            {
                **settings.prediction,
                "data": self.datamodule.data_digest,
                "sampling": {name: recipe[name] for name in options if name in recipe},
                "fps": settings.video_fps if self.type is ArtifactType.VIDEOS else None,
                "inputs": [*weights, *(source.reference for source in sources)],
            },
        )


def _predict(settings: TrainingSettings, job: PredictionJob) -> pl.Trainer:
    """Predict all items, sharded over the ranks; returns the Trainer.

    The step writes its predictions; nothing is gathered.
    """
    trainer = build_trainer(settings)
    # A resumed run may have fewer clips left than ranks.
    job.step.allow_zero_length_dataloader_with_multiple_devices = True
    sampler = ClipSampler(
        cast(Sized, job.items), job.batch_size, trainer.global_rank, trainer.world_size
    )
    loader: DataLoader[Any] = DataLoader(
        job.items, job.batch_size, sampler=sampler, collate_fn=job.collate
    )
    with failures_as_sentences(settings.stage), ends_after_a_batch():
        trainer.predict(job.step, loader, return_predictions=False)
    trainer.strategy.barrier("predictions written")
    if not in_slurm_job():
        stop_if_signalled()
    return trainer
