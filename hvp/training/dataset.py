"""Dataset artifact: manifest of the prepared clips."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.data.datamodule import ClipDataModule
from hvp.data.packed import PreparedDataset
from hvp.errors import ConfigError
from hvp.files import write_json


def dataset_artifact(dataset: str) -> str:
    """Name of the dataset artifact."""
    return f"clips-{dataset}"


def publish_dataset(dataset: str, datamodule: ClipDataModule, store: ArtifactStore) -> Artifact:
    """Publish the manifest of the prepared data (clips, no pixels); idempotent."""
    data = datamodule.data
    found = store.find(dataset_artifact(dataset), ArtifactType.DATASET, data.digest)
    if found is not None:
        return found
    with TemporaryDirectory() as staged:
        write_json(Path(staged) / "manifest.json", asdict(data.manifests["labels"]))
        write_json(Path(staged) / "summary.json", datamodule.summary())
        return store.publish(
            Path(staged),
            name=dataset_artifact(dataset),
            type=ArtifactType.DATASET,
            metadata={"settings_digest": data.digest, "size": list(data.size)},
        )


def check_same_data(predictions: PredictionSet, data: PreparedDataset, reference: str) -> None:
    """Raise `ConfigError` unless the predictions were made from exactly this prepared data."""
    if predictions.header.dataset_digest != data.digest:
        raise ConfigError(
            f"predictions={reference} were made from other data "
            f"({predictions.header.dataset} {predictions.header.dataset_digest[:12]}) than "
            f"dataset={data.name} is now ({data.digest[:12]}); give the dataset settings "
            "of the predictions, or predict again"
        )
