"""Checks of folders: where results are written, and where raw data lies."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hvp.errors import ConfigError
from hvp.files import existing_part

_WRITTEN = ("work_dir", "data_dir", "output_dir")


def check_places(settings: Mapping[str, Any]) -> None:
    """Check the folders that a run writes to."""
    for key in _WRITTEN:
        check_place(key, settings[key])


def check_place(key: str, folder: str) -> None:
    """Try whether a folder can be written to, or made; nothing is left behind.

    Raises:
        ConfigError: it cannot.
    """
    path = Path(folder).absolute()
    existing = existing_part(path)
    if not existing.is_dir():
        raise ConfigError(f"{key}={folder}: {existing} is a file; give a folder to write to")
    try:
        with TemporaryDirectory(dir=existing, prefix=".hvp-"):
            pass
    except OSError as error:
        raise ConfigError(
            f"{key}={folder}: {existing} cannot be written to ({error.strerror}); give a folder "
            f"that can be, {key}=/path/to/it"
        ) from error


def check_raw_data(settings: Mapping[str, Any]) -> None:
    """Check that the raw data of a dataset that reads any is a folder.

    Raises:
        ConfigError: it is not given, or no folder.
    """
    dataset = settings["dataset"]
    for name, value in dataset["datamodule"].items():
        if name != "root" and not str(name).endswith("_root"):
            continue
        if value is None and name != "root":
            continue
        given = settings["data_root"]
        key = "data_root" if value == given else f"dataset.datamodule.{name}"
        if value is None:
            raise ConfigError(
                f"{key} is not set: dataset={dataset['name']} reads raw data from disk; "
                f"add {key}=/path/to/it"
            )
        path = Path(value).expanduser()
        if not path.is_dir():
            found = "is a file" if path.exists() else "does not exist"
            raise ConfigError(
                f"{key}={value}: {found} (from {Path.cwd()}); give the folder of the raw data, "
                f"{key}=/path/to/it"
            )
