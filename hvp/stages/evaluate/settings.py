"""Settings digest of an evaluation, by which a finished one is found again."""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hvp.artifacts.store import ArtifactStore
from hvp.evaluation.results import FORMAT
from hvp.files import file_digest, settings_digest
from hvp.metrics.i3d_weights import TORCHSCRIPT


def artifact_name(config: DictConfig) -> str:
    """Name of the artifact that an evaluation publishes."""
    return f"evaluation-{config.dataset.name}"


def plain(node: Any) -> Any:
    """Resolved plain values of a config node."""
    return OmegaConf.to_container(node, resolve=True)


def evaluation_digest(config: DictConfig, store: ArtifactStore, files: str | None) -> str:
    """Digest of what exactly is evaluated, how, and how it is shown.

    Args:
        config: the composed config.
        store: where references are looked up.
        files: `folder_digest` of the folder that is evaluated; None where it is artifacts.
    """
    named = [config.predictions, config.videos] if files is None else []
    references = [name for name in (*named, config.evaluate.svg_rgb) if name is not None]
    settings = plain(config.evaluate)
    del settings["device"], settings["compare"]
    if files is not None:
        settings["files"] = files
        settings["dataset"] = plain(config.dataset)
    return settings_digest(
        {
            "stage": "evaluate",
            "format": FORMAT,
            "inputs": [store.lineage(reference)[0].reference for reference in references],
            "checkpoint": config.checkpoint,
            "evaluate": with_file_digests(settings),
            "video_fps": config.video_fps,
        }
    )


def with_file_digests(settings: Any) -> Any:
    """Plain settings with each path of a file replaced by the file's SHA-256.

    So that an evaluation is done again when a file of weights changes or appears.
    """
    digest = cache(file_digest)

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(item) for key, item in value.items()}
        if isinstance(value, list):
            return [replaced(item) for item in value]
        if not isinstance(value, str):
            return value
        path = Path(value.removeprefix(TORCHSCRIPT))
        return digest(path) if path.is_file() else value

    return replaced(settings)
