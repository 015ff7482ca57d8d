"""Stage `prepare`: raw data to packed clips, a table of what was found and one of what was not."""

from typing import Any, Literal

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table

from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.data.datamodule import ClipDataModule
from hvp.errors import DataError
from hvp.log import console, say
from hvp.training.dataset import (
    IMAGE_CHANNELS,
    STRUCTURE_CHANNELS,
    build_datamodule,
    dataset_name,
    has_frames,
    publish_dataset,
)


def run(config: DictConfig) -> None:
    """Pack what both stages need, print the table and publish the dataset's manifest.

    RGB is packed where every recording has it; `stage=structure` alone would pack labels only.
    """
    datamodule = build_datamodule(config, "structure", STRUCTURE_CHANNELS)
    if has_frames(datamodule):
        build_datamodule(config, "image", IMAGE_CHANNELS).prepare_data()
    datamodule.prepare_data()
    print_summary(datamodule)
    print_skipped(datamodule)
    artifact = publish_dataset(config, datamodule, instantiate(config.artifacts))
    say(f"prepare: {datamodule.data.folder}, published {artifact.reference}")


def find_published(config: DictConfig, store: ArtifactStore) -> Artifact | None:
    """The manifest this stage would publish, when the data is prepared already."""
    datamodule = build_datamodule(config, "structure", STRUCTURE_CHANNELS)
    try:
        digest = datamodule.data.digest
    except DataError:
        return None
    return store.find(dataset_name(config), ArtifactType.DATASET, digest)


def print_summary(datamodule: ClipDataModule) -> None:
    """Print recordings, frames and clips of every split."""
    _print_table(f"dataset {datamodule.reader.name}", datamodule.summary())


def print_skipped(datamodule: ClipDataModule) -> None:
    """Print what of the raw data was left out on purpose, if anything was."""
    rows = [
        {
            "reason": skip.reason,
            "count": len(skip.names),
            "frames": skip.n_frames,
            "first": skip.names[0],
        }
        for skip in datamodule.skipped()
        if skip.names
    ]
    if rows:
        _print_table("left out", rows)


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table(title=title, title_justify="left")
    for column, value in rows[0].items():
        justify: Literal["left", "right"] = "left" if isinstance(value, str) else "right"
        table.add_column(column.replace("_", " "), justify=justify)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
