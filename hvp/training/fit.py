"""What the two training stages share: fit, predict, publish, and find what is already done."""

import shutil
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader, Dataset

from hvp.artifacts.rank_store import RankStore
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.config.digests import fit_settings
from hvp.data.sampler import ClipSampler
from hvp.errors import ArtifactError, ConfigError
from hvp.files import file_digest, settings_digest
from hvp.log import say, world_size
from hvp.reporting.loggers import build_loggers
from hvp.training import checkpoints, requeue
from hvp.training.batch_norm import SyncBatchNorms
from hvp.training.resume import ExactResume

CHECKPOINT_FILE = "last.ckpt"


def build_trainer(
    config: DictConfig, callbacks: Sequence[Callback] = (), **options: Any
) -> pl.Trainer:
    """The Trainer of the config with its loggers and callbacks.

    `callbacks`, which come after the config's, and `options` are the stage's own.
    """
    plugins: list[Any] = [checkpoints.AtomicCheckpointIO()]
    if config.trainer.get("sync_batchnorm"):
        plugins.append(SyncBatchNorms())
    return instantiate(
        config.trainer,
        logger=build_loggers(_recipes(config.logger)),
        callbacks=[
            *(instantiate(node) for node in config.callbacks.values() if node is not None),
            *callbacks,
            ExactResume(),
            *([requeue.Requeue()] if requeue.in_slurm_job() else []),
        ],
        plugins=plugins,
        default_root_dir=config.output_dir,
        use_distributed_sampler=False,  # the clip sampler shards by itself
        _convert_="all",
        **options,
    )


def _recipes(node: DictConfig) -> dict[str, Any]:
    """Plain values of a config node whose children `hydra.utils.instantiate` takes."""
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def open_store(config: DictConfig) -> ArtifactStore:
    """The artifact store of the config; several ranks get from it what rank zero gets."""
    store: ArtifactStore = instantiate(config.artifacts)
    if world_size() == 1:
        return store
    return RankStore(store, Path(config.output_dir) / "ranks" / "answers")


def checkpoint_name(config: DictConfig) -> str:
    """Artifact name of the weights this stage trains."""
    return f"{config.stage.name}-{config.dataset.name}-checkpoint"


def find_fitted(config: DictConfig, store: ArtifactStore) -> Artifact | None:
    """The checkpoint that `fit` would make with this config, when it exists already."""
    digest = settings_digest(fit_settings(config))
    return store.find(checkpoint_name(config), ArtifactType.CHECKPOINT, digest)


def fit(
    config: DictConfig,
    store: ArtifactStore,
    module: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    inputs: Sequence[str],
    **trainer_options: Any,
) -> None:
    """Train `module` and publish its checkpoint, unless that exists for the same settings.

    Goes on from this run's newest good checkpoint if there is one, else starts from `checkpoint=`.

    Args:
        config: the composed config.
        store: where the checkpoint is published.
        module: the model to train.
        datamodule: its clips.
        inputs: references of the artifacts it is made from (lineage).
        trainer_options: what this stage needs from the Trainer beside the config.
    """
    stage = config.stage.name
    found = find_fitted(config, store)
    if found is not None and not config.force:
        say(f"{stage}: trained for these settings, {found.reference}")
        return
    folder = checkpoints.folder_of(Path(config.output_dir))
    trainer = build_trainer(config, **trainer_options)
    if config.force and trainer.is_global_zero:
        shutil.rmtree(folder, ignore_errors=True)
    start = None if config.force else checkpoints.newest_good(Path(config.output_dir))
    if start is not None:
        say(f"{stage}: going on from {start}")
    elif config.checkpoint is not None:
        path, _ = named_checkpoint(config.checkpoint, store)
        say(f"{stage}: starting from {path}")
        # An imported checkpoint holds weights only; one of ours goes on with its optimizers too.
        if "optimizer_states" in torch.load(path, map_location="cpu", weights_only=True):
            start = path
        else:
            load_weights(module, path)
    trainer.fit(module, datamodule=datamodule, ckpt_path=start, weights_only=True)
    last = checkpoints.save(trainer, keep=1)
    if trainer.is_global_zero:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        metadata = {"global_step": trainer.global_step, "metrics": metrics}
        with TemporaryDirectory(dir=folder) as staged:
            (Path(staged) / CHECKPOINT_FILE).hardlink_to(last)
            settings = fit_settings(config)
            publish(
                config,
                Path(staged),
                store,
                checkpoint_name(config),
                ArtifactType.CHECKPOINT,
                settings,
                inputs,
                metadata,
            )
    trainer.strategy.barrier("checkpoint published")


def predict(
    config: DictConfig,
    step: pl.LightningModule,
    jobs: Dataset[Any],
    batch_size: int,
    collate_fn: Callable[[list[Any]], Any],
) -> pl.Trainer:
    """Run `step.predict_step` on every item of `jobs`, each on one rank; returns the Trainer.

    `step` writes what it makes; nothing is gathered.
    """
    trainer = build_trainer(config)
    # A run that goes on may have fewer clips left than ranks.
    step.allow_zero_length_dataloader_with_multiple_devices = True
    sampler = ClipSampler(cast(Sized, jobs), batch_size, trainer.global_rank, trainer.world_size)
    loader: DataLoader[Any] = DataLoader(jobs, batch_size, sampler=sampler, collate_fn=collate_fn)
    trainer.predict(step, loader, return_predictions=False)
    trainer.strategy.barrier("predictions written")
    return trainer


def publish(
    config: DictConfig,
    folder: Path,
    store: ArtifactStore,
    name: str,
    type: ArtifactType,
    settings: dict[str, Any],
    inputs: Sequence[str],
    metadata: dict[str, Any],
) -> Artifact:
    """Publish `folder` so that it is found again by `settings`, and say so."""
    artifact = store.publish(
        folder,
        name=name,
        type=type,
        metadata={"settings_digest": settings_digest(settings), "settings": settings, **metadata},
        inputs=inputs,
        aliases=list(config.aliases),
    )
    say(f"published {artifact.reference}")
    return artifact


def find_checkpoint(config: DictConfig, store: ArtifactStore) -> tuple[Path, list[str]]:
    """The weights to predict with, and their lineage.

    Those just fitted; with `fit=false` those that `checkpoint=` names, else those that were fitted
    with the same settings earlier.

    Raises:
        ConfigError: there are none.
    """
    if config.checkpoint is not None and not config.fit:
        return named_checkpoint(config.checkpoint, store)
    found = find_fitted(config, store)
    if found is None:
        raise ConfigError(
            "fit=false, but nothing was trained with these settings yet: give checkpoint=... "
            f"(for example checkpoint={checkpoint_name(config)}:latest) or fit=true"
        )
    return named_checkpoint(found.reference, store)


def named_checkpoint(reference: str, store: ArtifactStore) -> tuple[Path, list[str]]:
    """The file behind `checkpoint=`, a .ckpt file or an artifact reference, and its lineage.

    The lineage of a file outside the store is its digest.

    Raises:
        ConfigError: a file is named that does not exist.
        ArtifactError: no such artifact.
    """
    if reference.endswith(".ckpt"):
        path = Path(reference)
        if not path.is_file():
            raise ConfigError(f"checkpoint={reference}: no such file; give a .ckpt file or name:v0")
        return path, []
    artifact = store.fetch(reference, ArtifactType.CHECKPOINT)
    return artifact.path / CHECKPOINT_FILE, [artifact.reference]


def load_weights(module: pl.LightningModule, path: Path) -> str:
    """Load a checkpoint's weights into `module`; returns the SHA-256 of the file.

    Raises:
        ArtifactError: the file is not a checkpoint of this model.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    except (RuntimeError, KeyError, OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"{path}: not a checkpoint of this model ({reason[:200]}); "
            "predict with the model= and dataset= settings it was trained with"
        ) from error
    return file_digest(path)
