"""Structure generator of the evaluated predictions, loaded for posterior reconstruction."""

import torch

from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.config.build import build_model
from hvp.errors import ArtifactError, ConfigError
from hvp.evaluation.missing import Unavailable
from hvp.model import Model
from hvp.stages.evaluate.settings import EvaluationSettings
from hvp.training.weights import find_weights, load_state, model_recipe, read_checkpoint


def load_structure_generator(
    settings: EvaluationSettings,
    store: ArtifactStore,
    predictions: Artifact,
    device: torch.device,
    command: str,
) -> Model:
    """Load the model from `checkpoint=`, or from the checkpoint in the predictions' lineage.

    Args:
        settings: settings of the stage.
        store: artifact store.
        predictions: artifact of the label predictions.
        device: device of the model.
        command: command of this evaluation.

    Raises:
        Unavailable: there is no checkpoint, or it is not that of the predictions.
    """
    header = PredictionSet(predictions.path).header
    try:
        own = [a for a in store.lineage(predictions.reference) if a.type is ArtifactType.CHECKPOINT]
        if settings.checkpoint is None and not own:
            raise ConfigError(
                f"{predictions.reference} was not made from a checkpoint in the artifact store"
            )
        weights = find_weights(settings.checkpoint or own[0].reference, store)
        if weights.digest != header.checkpoint_digest:
            raise ConfigError(
                f"{weights.path} is not the checkpoint of {predictions.reference} (SHA-256 "
                f"{weights.digest[:12]}, expected {header.checkpoint_digest[:12]})"
            )
        content = read_checkpoint(weights.path)
        recipe = model_recipe(content, weights.path, settings.structure, settings.command_line)
        # Prediction options are those of the predictions, not those of training.
        made_with = {key: value for key, value in header.sampling.items() if key in recipe}
        model = build_model({**recipe, **made_with}, settings.seed)
        load_state(model, content["state_dict"], weights.path)
    except (ConfigError, ArtifactError) as error:
        wanted = f"{command} evaluate.reconstruction=true checkpoint=..."
        raise Unavailable(f"{error}.", wanted) from error
    return model.to(device)
