"""Stage `prepare`: pack raw data to clips; tables of the splits and of skipped data."""

from typing import Any, Literal

from omegaconf import DictConfig
from rich.table import Table

from hvp.artifacts.store import Artifact, ArtifactType
from hvp.config.build import build_datamodule, build_store
from hvp.config.settings import dataset_settings, run_settings
from hvp.data.datamodule import ClipDataModule
from hvp.log import console, say
from hvp.tables import cell
from hvp.text import visible
from hvp.training.dataset import dataset_artifact, publish_dataset


class Prepare:
    """Packs the clips of both stages; see `hvp.launch.stage.Stage`."""

    def __init__(self, config: DictConfig) -> None:
        self.settings = run_settings(config)
        self.data = dataset_settings(config)
        self.with_rgb = config.videos is not None

    def run(self) -> None:
        """Pack the data, print the tables and publish the dataset artifact.

        RGB is packed where the recordings have it; `videos=null` packs labels only. What is packed
        already is hashed again, and made again where it is damaged.

        Raises:
            DataError: some recordings have RGB, others do not.
        """
        datamodule = build_datamodule(self.data, ("labels",))
        if self.with_rgb and datamodule.has_frames:
            build_datamodule(self.data, ("labels", "frames"), "image").prepare_data(repair=True)
        datamodule.prepare_data(repair=True)
        print_summary(datamodule)
        print_skipped(datamodule)
        store = build_store(self.settings.store)
        artifact = publish_dataset(self.settings.dataset, datamodule, store)
        say(f"prepare: {datamodule.data.folder}, published {artifact.reference}")

    def find_published(self) -> Artifact | None:
        """Existing dataset artifact, if the data is prepared."""
        datamodule = build_datamodule(self.data, ("labels",))
        if not datamodule.is_prepared:
            return None
        name, digest = dataset_artifact(self.settings.dataset), datamodule.data_digest
        return build_store(self.settings.store).find(name, ArtifactType.DATASET, digest)


def print_summary(datamodule: ClipDataModule) -> None:
    """Print recordings, frames and clips of every split."""
    _print_table(f"dataset {datamodule.reader.name}", datamodule.summary())


def print_skipped(datamodule: ClipDataModule) -> None:
    """Print the raw data that was left out, if any."""
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
    table = Table(title=cell(title), title_justify="left")
    for column, value in rows[0].items():
        justify: Literal["left", "right"] = "left" if isinstance(value, str) else "right"
        table.add_column(cell(column.replace("_", " ")), justify=justify)
    for row in rows:
        table.add_row(*(cell(visible(str(value))) for value in row.values()))
    console.print(table)
