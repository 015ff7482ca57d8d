"""Settings of stage `evaluate`, and the digest by which a finished evaluation is found."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hvp.artifacts.store import ArtifactStore
from hvp.config.digests import plain, without_import_paths, without_younger_keys
from hvp.config.resolvers import command_line
from hvp.config.settings import (
    DatasetSettings,
    ModelSettings,
    RunSettings,
    dataset_settings,
    model_settings,
    run_values,
)
from hvp.evaluation.build import Recipes
from hvp.evaluation.folder import PREFIX
from hvp.evaluation.results import FORMAT
from hvp.files import file_digest, settings_digest
from hvp.machine_paths import without_machine_paths
from hvp.metrics.i3d_weights import TORCHSCRIPT


@dataclass(frozen=True)
class EvaluationSettings(RunSettings):
    """Settings of stage `evaluate`."""

    predictions: str
    videos: str | None
    svg_rgb: str | None
    """References of the input artifacts."""
    foreign: str | None
    """Folder of foreign predictions to evaluate instead: `folder:PATH`."""
    checkpoint: str | None
    """Weights of the structure generator; None finds them by lineage."""
    compare: tuple[str, ...] | None
    """Finished evaluations to compare on one page; None runs an evaluation."""
    measures: Recipes
    device: str
    clips_shown: int
    frames_shown: int
    data: DatasetSettings
    structure: ModelSettings
    """Structure generator of the config, for checkpoints that lack some of its settings."""
    evaluate: Mapping[str, Any]
    """Config section `evaluate`, plain values."""
    dataset_config: Mapping[str, Any]
    """Config section `dataset`, plain values."""
    config_text: str
    """Whole config as YAML, for the report; without the paths of this machine."""
    command_line: tuple[str, ...]
    """Command-line overrides, `key=value`."""

    @property
    def artifact_name(self) -> str:
        """Name of the evaluation artifact."""
        return f"evaluation-{self.dataset}"

    @property
    def folder(self) -> Path | None:
        """Folder of foreign predictions; None if artifacts are evaluated."""
        return None if self.foreign is None else Path(self.foreign.removeprefix(PREFIX))


def evaluation_settings(config: DictConfig) -> EvaluationSettings:
    """Make the settings from the composed config."""
    evaluate = plain(config.evaluate)
    foreign, compare = evaluate["predictions"], evaluate["compare"]
    return EvaluationSettings(
        **run_values(config),
        predictions=config.predictions,
        videos=config.videos,
        svg_rgb=evaluate["svg_rgb"],
        foreign=None if foreign is None else str(foreign),
        checkpoint=config.checkpoint,
        compare=None if compare is None else tuple(map(str, compare)),
        measures=evaluate["measures"],
        device=evaluate["device"],
        clips_shown=evaluate["clips_shown"],
        frames_shown=evaluate["frames_shown"],
        data=dataset_settings(config),
        structure=model_settings(config, "structure"),
        evaluate=evaluate,
        dataset_config=plain(config.dataset),
        config_text=_config_text(config),
        command_line=command_line(),
    )


def _config_text(config: DictConfig) -> str:
    shown = without_machine_paths(
        OmegaConf.to_container(config, resolve=True), Path(config.work_dir)
    )
    return OmegaConf.to_yaml(OmegaConf.create(shown))


def evaluation_digest(settings: EvaluationSettings, store: ArtifactStore, files: str | None) -> str:
    """Digest of everything that the evaluation artifact depends on.

    Args:
        settings: settings of the stage.
        store: artifact store, to resolve references.
        files: `folder_digest` of the evaluated folder; None if artifacts are evaluated.
    """
    named = [settings.predictions, settings.videos] if files is None else []
    references = [name for name in (*named, settings.svg_rgb) if name is not None]
    evaluate = {k: v for k, v in settings.evaluate.items() if k not in ("device", "compare")}
    # The reader's settings aside: what raw data holds counts by the artifacts made from it.
    dataset = {k: v for k, v in settings.dataset_config.items() if k != "extract_labels"}
    reader = without_younger_keys(dataset.pop("datamodule"))
    dataset |= {"datamodule": reader} if files else {}
    return settings_digest(
        {
            "stage": "evaluate",
            "format": FORMAT,
            "inputs": [store.lineage(reference)[0].reference for reference in references],
            "checkpoint": settings.checkpoint,
            "evaluate": with_file_digests(without_import_paths(evaluate)),
            "files": files,
            "dataset": without_import_paths(dataset),
            "video_fps": settings.video_fps,
        }
    )


def with_file_digests(settings: Any) -> Any:
    """Replace each file path in plain settings by the file's SHA-256.

    So an evaluation is repeated when a file of weights changes or appears.
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
