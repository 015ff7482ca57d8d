"""The clips of the configured dataset, and the artifact that says which they are."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.data.datamodule import ClipDataModule
from hvp.data.packed import PreparedDataset
from hvp.data.readers import Channel
from hvp.errors import ConfigError
from hvp.files import write_json

STRUCTURE_CHANNELS: tuple[Channel, ...] = ("labels",)
IMAGE_CHANNELS: tuple[Channel, ...] = ("labels", "frames")


def build_datamodule(
    config: DictConfig, stage: str, channels: tuple[Channel, ...]
) -> ClipDataModule:
    """The data module of `stage` (structure, image or svg_rgb) with the given channels."""
    dataset = config.dataset
    if "root" in dataset.reader and dataset.reader.root is None:
        raise ConfigError(
            f"data_root is not set; dataset={dataset.name} reads raw data: data_root=/path/to/it"
        )
    crop = dataset.image if stage == "image" else dict.fromkeys(dataset.image)
    return ClipDataModule(
        reader=instantiate(dataset.reader),
        rules=instantiate(dataset.rules),
        data_dir=config.data_dir,
        size=dataset.size,
        batch_size=config.model[stage].batch_size,
        channels=channels,
        eval_batch_size=config.model[stage].eval_batch_size,
        num_workers=dataset.num_workers,
        source_size=crop["source_size"],
        load_size=crop["load_size"],
        flip=dataset.flip["image" if stage == "image" else "structure"],
        part_dropout=crop["part_dropout"] or 0.0,
        max_eval_clips=dataset.max_eval_clips,
        seed=config.seed,
    )


def has_frames(datamodule: ClipDataModule) -> bool:
    """Whether every recording has RGB, so that stage two can run."""
    return all("frames" in recording.channels for recording in datamodule.reader.recordings())


def dataset_name(config: DictConfig) -> str:
    """Artifact name of the configured dataset."""
    return f"clips-{config.dataset.name}"


def publish_dataset(
    config: DictConfig, datamodule: ClipDataModule, store: ArtifactStore
) -> Artifact:
    """Publish which clips the prepared data holds (its manifest, not the pixels); idempotent."""
    data = datamodule.data
    found = store.find(dataset_name(config), ArtifactType.DATASET, data.digest)
    if found is not None:
        return found
    manifests = dict(sorted(data.manifests.items()))
    with TemporaryDirectory() as staged:
        write_json(Path(staged) / "manifest.json", manifests["labels"])
        write_json(Path(staged) / "summary.json", datamodule.summary())
        return store.publish(
            Path(staged),
            name=dataset_name(config),
            type=ArtifactType.DATASET,
            metadata={"settings_digest": data.digest, "size": list(data.size)},
        )


def check_same_data(config: DictConfig, predictions: PredictionSet, data: PreparedDataset) -> None:
    """Raise `ConfigError` unless the predictions continue clips of exactly this data."""
    if predictions.header.dataset_digest != data.digest:
        raise ConfigError(
            f"predictions={config.predictions} were made from other data "
            f"({predictions.header.dataset} {predictions.header.dataset_digest[:12]}) than "
            f"dataset={config.dataset.name} is now ({data.digest[:12]}); give the dataset settings "
            "of the predictions, or predict again"
        )
