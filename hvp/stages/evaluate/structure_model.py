"""Structure model that made the evaluated predictions, for its posterior reconstruction."""

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.errors import ArtifactError, ConfigError
from hvp.evaluation.missing import Unavailable
from hvp.training.fit import load_weights, named_checkpoint


def load_structure_model(
    config: DictConfig,
    store: ArtifactStore,
    predictions: Artifact,
    device: torch.device,
    command: str,
) -> pl.LightningModule:
    """Load the model with the weights that `checkpoint=` or the lineage of the predictions names.

    Args:
        config: the composed config.
        store: where the checkpoint is.
        predictions: what the model made.
        device: where it shall run.
        command: the command of this evaluation.

    Raises:
        Unavailable: there is no checkpoint, or it is of another model.
    """
    header = PredictionSet(predictions.path).header
    try:
        own = [a for a in store.lineage(predictions.reference) if a.type is ArtifactType.CHECKPOINT]
        if config.checkpoint is None and not own:
            raise ConfigError(
                f"{predictions.reference} was not made from a checkpoint in the artifact store"
            )
        path, _ = named_checkpoint(config.checkpoint or own[0].reference, store)
        module: pl.LightningModule = instantiate(
            config.model.structure.module,
            rollout_skip=header.sampling.get("skip", config.dataset.rollout.skip),
            _convert_="all",
        )
        found = load_weights(module, path)
        if found != header.checkpoint_digest:
            raise ConfigError(
                f"{path} is not the checkpoint of {predictions.reference} (SHA-256 {found[:12]}, "
                f"expected {header.checkpoint_digest[:12]})"
            )
    except (ConfigError, ArtifactError) as error:
        wanted = f"{command} evaluate.reconstruction=true checkpoint=..."
        raise Unavailable(f"{error}.", wanted) from error
    return module.to(device)
