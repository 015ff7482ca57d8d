"""The clips of the configured dataset, and the artifact that says which they are."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from hvp.artifacts.clip_set import ClipFile
from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.clips import Channel, ClipId
from hvp.config.digests import clips_of
from hvp.data.datamodule import ClipDataModule
from hvp.data.packed import PreparedDataset
from hvp.errors import ConfigError
from hvp.files import write_json

STRUCTURE_CHANNELS: tuple[Channel, ...] = ("labels",)
IMAGE_CHANNELS: tuple[Channel, ...] = ("labels", "frames")

_AT_ONCE = 16  # frames read together


def build_datamodule(
    config: DictConfig, stage: str, channels: tuple[Channel, ...]
) -> ClipDataModule:
    """The data module of `stage` (structure, image or svg_rgb) with the given channels."""
    dataset = config.dataset
    crop = dataset.image if stage == "image" else dict.fromkeys(dataset.image)
    # Partial, then called: Hydra would turn the rules, a dataclass, into a config.
    make_datamodule = instantiate(dataset.datamodule, _partial_=True)
    return make_datamodule(
        rules=instantiate(dataset.rules),
        data_dir=config.data_dir,
        size=dataset.size,
        batch_size=config.model[stage].batch_size,
        channels=channels,
        eval_batch_size=config.model[stage].eval_batch_size,
        num_workers=dataset.num_workers,
        source_size=crop["source_size"],
        load_size=crop["load_size"],
        flip=dataset.flip[clips_of(stage)],
        part_dropout=crop["part_dropout"] or 0.0,
        max_eval_clips=dataset.max_eval_clips,
        seed=config.seed,
    )


def stream_clip(data: PreparedDataset, channel: Channel, clip: ClipFile) -> Iterator[np.ndarray]:
    """The recorded frames of a clip until it or its recording ends, in constant memory.

    Yields:
        Labels (H, W) or RGB (H, W, 3) uint8.
    """
    n_frames = recorded_frames(data, clip)
    recording, first, step = clip.clip
    for t in range(0, n_frames, _AT_ONCE):
        piece = ClipId(recording, first + t * step, step)
        frames = data.read(channel, piece, min(_AT_ONCE, n_frames - t))
        yield from frames if channel == "labels" else frames.transpose(0, 2, 3, 1)


def recorded_frames(data: PreparedDataset, clip: ClipFile) -> int:
    """How many of a clip's frames were recorded: all, or fewer where the recording ends."""
    recording, first, step = clip.clip
    total = next(r.n_frames for r in data.recordings if r.name == recording)
    return min(clip.length, -(-(total - first) // step))


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
