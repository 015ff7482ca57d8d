"""Base LightningDataModule: prepares the clip store and makes the dataloaders.

`hvp.data.datasets` has one data module per dataset. Works without a Trainer too:
`prepare_data()`, `setup()`, then the dataloaders.

Loader workers draw no random numbers: the order comes from `ClipSampler`, the augmentation runs on
the device, and both depend on (seed, epoch, clip) only.

Shapes: B batch, T time, H height, W width.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from hvp.clips import Channel, ClipBatch, ClipId, collate
from hvp.data.augment import ClipAugmentation
from hvp.data.clip_dataset import ClipDataset
from hvp.data.manifest import prepared_digest, store_folder
from hvp.data.packed import PreparedDataset
from hvp.data.readers.base import SPLITS, Reader, Recording, Skip, Split
from hvp.data.readers.media_files import named
from hvp.data.rules import ClipList, ClipRules
from hvp.data.sampler import ClipSampler, StatefulDataLoader
from hvp.data.store import prepare
from hvp.errors import ConfigError, DataError
from hvp.labels import LabelSpace, Size


@dataclass(kw_only=True, eq=False, repr=False)
class ClipDataModule(pl.LightningDataModule, ABC):
    """LightningDataModule of one dataset: clips for training, validation and prediction.

    A dataset is a subclass, a dataclass too: it adds the fields that its reader needs and builds
    the reader in `make_reader`.

    Raises:
        ConfigError: the arguments contradict each other.
        DataError: the raw data does not exist.
    """

    rules: ClipRules
    """Clip rules: past and future length, frame step, strides."""
    data_dir: str | Path
    """Folder of the clip stores of all datasets."""
    size: Size
    """Height and width of the clips in pixels."""
    batch_size: int
    """Global batch size: training clips per optimizer step, over all ranks together."""
    channels: Sequence[Channel] = ("labels",)
    """Channels to load; `labels` must be among them."""
    eval_batch_size: int | None = None
    """Validation and prediction batch size of one rank; None = a rank's share of `batch_size`."""
    num_workers: int = 0
    """DataLoader workers per rank; 0 = load in the main process."""
    source_size: Size | None = None
    """Stored size of training clips (None = load_size or size), ..."""
    load_size: Size | None = None
    """... resized to this on the device and random-cropped to `size` (None = no crop). Validation
    and prediction always see the whole image at `size`."""
    flip: bool = True
    """Random horizontal flip of training clips."""
    part_dropout: float = 0.0
    """Part dropout: probability that a class is missing from a training frame (pose)."""
    max_eval_clips: int | None = None
    """Number of test clips to predict, evenly spread; None = all."""
    seed: int = 0
    """Random seed of the training order and the augmentation."""

    label_space_name: ClassVar[str | None] = None
    """Name of the label space, in datasets whose classes are given; None = any."""

    has_flow: ClassVar[bool] = False
    """Whether it knows the exact flow between neighbouring frames."""

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], key: str) -> None:
        """Check the settings of the dataset's own fields before anything is read.

        Args:
            settings: plain values.
            key: where they stand in the config, for messages: `dataset.datamodule`.

        Raises:
            ConfigError: names the key, what was found, what is allowed and what to do.
        """
        return

    def __post_init__(self) -> None:
        super().__init__()
        self.size = _size(self.size)
        self.load_size = None if self.load_size is None else _size(self.load_size)
        self.source_size = None if self.source_size is None else _size(self.source_size)
        self.train_length = self.rules.n_past + self.rules.n_future
        """Frames per training clip; kept in checkpoints. May change between epochs (the Trainer
        then needs `reload_dataloaders_every_n_epochs=1`)."""
        self._check_arguments()
        self.reader = self.make_reader()
        """Reader of the raw dataset."""

    @abstractmethod
    def make_reader(self) -> Reader:
        """Build the reader from the fields of this data module (called once)."""

    def _check_arguments(self) -> None:
        if "labels" not in self.channels:
            raise ConfigError(f"channels={list(self.channels)}: labels must be among them")
        if "flow" in self.channels and self.rules.step != 1:
            raise ConfigError(
                f"dataset.rules.step={self.rules.step} with exact flow: it is known between "
                "neighbouring frames only; set step=1 or use an estimating flow teacher (flow=dis)"
            )
        target = self.load_size or self.size
        if any(t < s for t, s in zip(target, self.size, strict=True)):
            raise ConfigError(
                f"load_size={list(target)} is smaller than size={list(self.size)}; "
                "a crop cannot be larger than what it is cut from"
            )
        if self.load_size is None and self.train_size != self.size:
            raise ConfigError(
                f"source_size={list(self.train_size)} differs from size={list(self.size)} but "
                "load_size is not set; set load_size to what is cropped, or drop source_size"
            )

    @property
    def train_size(self) -> Size:
        """Stored height and width of training clips."""
        return self.source_size or self.load_size or self.size

    @property
    def label_space(self) -> LabelSpace:
        """Label space of the label maps."""
        return self.reader.label_space

    @property
    def has_frames(self) -> bool:
        """Whether the recordings have RGB frames. Opens no image.

        Raises:
            DataError: some have, others do not.
        """
        recordings = self.reader.recordings()
        without = [r.name for r in recordings if "frames" not in r.channels]
        if 0 < len(without) < len(recordings):
            raise DataError(
                f"dataset {self.reader.name!r}: {len(without)} of {len(recordings)} recordings "
                f"have no RGB ({named(without)}); add it, leave them out "
                "(dataset.datamodule.exclude), or go without RGB altogether (videos=null)"
            )
        return not without

    def check_has_frames(self) -> bool:
        """`has_frames`, for those who go on without RGB where there is none.

        Raises:
            DataError: some recordings have RGB, others do not; or none has, but there are pictures
                or videos that no rule takes.
        """
        if self.has_frames:
            return True
        for skip in self.skipped():
            if skip.unread:
                raise DataError(
                    f"dataset {self.reader.name!r}: no recording has RGB, but there are "
                    f"{len(skip.names)} files {skip.reason} ({named(skip.names)}); rename them as "
                    "docs/datasets.md says, or go without RGB (videos=null)"
                )
        return False

    @property
    def data_digest(self) -> str:
        """`PreparedDataset.digest` of `data`, from the reader's settings: needs no prepared data.

        Raises:
            DataError: the raw data is not what its layout promises.
        """
        return prepared_digest(self.reader.settings(), self.size)

    @property
    def train_data_digest(self) -> str:
        """`PreparedDataset.digest` of `train_data`, likewise."""
        return prepared_digest(self.reader.settings(), self.train_size)

    def prepare_data(self, repair: bool = False) -> None:
        """Pack what the clip store lacks (one process per node; concurrent calls are safe).

        Args:
            repair: hash every file of the clip store, and make again what is damaged.

        Raises:
            DataError: a split has no recording that is long enough for a clip, the raw data is not
                what its layout promises, what was prepared is damaged, or the disk is full.
        """
        self._split_clips()  # before hours of packing
        for size in dict.fromkeys((self.size, self.train_size)):
            prepare(self.reader, self.data_dir, size, self.channels, repair)

    def setup(self, stage: str | None = None) -> None:
        """No-op: the prepared data is opened at first use."""

    @cached_property
    def data(self) -> PreparedDataset:
        """Prepared dataset at `size`, for validation and prediction."""
        return self._open(self.size)

    @cached_property
    def train_data(self) -> PreparedDataset:
        """Prepared dataset at `train_size`, for training."""
        return self.data if self.train_size == self.size else self._open(self.train_size)

    def _open(self, size: Size) -> PreparedDataset:
        folder = store_folder(Path(self.data_dir), self.reader.name, self.reader.settings(), size)
        return PreparedDataset.open(folder, self.channels)

    @property
    def is_prepared(self) -> bool:
        """Whether the data at `size` lies in the store already."""
        try:
            return bool(self.data.digest)
        except DataError:
            return False

    def training_data(self) -> dict[str, Any]:
        """What the training data is: two data modules have the same if they train alike on it."""
        return self.reader.settings()

    @property
    def longest_train_length(self) -> int:
        """Largest training clip length that leaves one batch of clips."""
        return self.rules.longest(self.train_data.recordings, self.batch_size)

    @cached_property
    def test_clips(self) -> ClipList:
        """All test clips by the rules; their `length` is L."""
        return self.rules.test_clips(self.data.recordings)

    @property
    def eval_clips(self) -> list[ClipId]:
        """Test clips to predict: all, or `max_eval_clips` of them."""
        clips = self.test_clips
        return clips.subsample(len(clips) if self.max_eval_clips is None else self.max_eval_clips)

    def train_dataloader(self) -> DataLoader:
        """Training dataloader: shuffled clips of `train_length` frames, resumable within an epoch.

        Raises:
            DataError: there are fewer clips than one batch holds.
        """
        clips = self.check_batch(self.train_data.recordings)
        dataset = ClipDataset(self.train_data, clips, self.train_length, self.channels)
        rank, world_size = self._ranks()
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        per_rank = self._per_rank()
        sampler = ClipSampler(
            dataset, per_rank, rank, world_size, shuffle=True, seed=self.seed, epoch=epoch
        )
        return StatefulDataLoader(
            dataset, sampler=sampler, drop_last=True, **self._loader_options(sampler)
        )

    def check_batch(self, recordings: Sequence[Recording]) -> ClipList:
        """Training clips of `train_length` frames, at least one batch.

        Raises:
            DataError: there are fewer.
        """
        clips = self.rules.train_clips(recordings, self.train_length)
        if len(clips) < self.batch_size:
            raise DataError(
                f"dataset {self.reader.name!r}: {len(clips)} training clips of "
                f"{self.train_length} frames, batch_size={self.batch_size}; lower batch_size or "
                "add recordings"
            )
        return clips

    def val_dataloader(self) -> DataLoader:
        """Validation dataloader: clips of n_past + n_future frames, in order.

        `limit_val_batches` counts batches of a single rank: any number of ranks together validate
        on the same clips.
        """
        clips = self.rules.val_clips(self.data.recordings)
        n_clips = len(clips)
        limit = None if self.trainer is None else self.trainer.limit_val_batches
        if limit and isinstance(limit, int):
            n_clips = min(n_clips, limit * (self.eval_batch_size or self.batch_size))
        shard = self._ranks() if self._can_shard(n_clips) else (0, 1)
        return self._eval_loader(clips, clips.length, n_clips, shard)

    def _can_shard(self, n_clips: int) -> bool:
        """Whether the ranks validate different clips; else each of them validates all.

        Scores are averaged over the ranks, so each rank needs at least one clip; and where a
        forward pass needs all ranks (FSDP), each needs as many batches as the others.
        """
        world_size = self._ranks()[1]
        size = self.eval_batch_size or self._per_rank()
        most, least = (
            math.ceil(len(range(rank, n_clips, world_size)) / size) for rank in (0, world_size - 1)
        )
        in_step = self.trainer is not None and getattr(self.trainer.strategy, "in_step", False)
        return n_clips >= world_size and (most == least or not in_step)

    def predict_dataloader(self) -> DataLoader:
        """Prediction dataloader: test clips of L frames (n_past of context), in order."""
        clips = self.eval_clips
        return self._eval_loader(clips, self.test_clips.length, len(clips), self._ranks())

    def _eval_loader(
        self, clips: Sequence[ClipId], length: int, n_clips: int, shard: tuple[int, int]
    ) -> DataLoader:
        dataset = ClipDataset(self.data, clips, length, self.channels)
        sampler = ClipSampler(range(n_clips), self.eval_batch_size or self._per_rank(), *shard)
        return DataLoader(dataset, sampler=sampler, **self._loader_options(sampler))

    def _loader_options(self, sampler: ClipSampler) -> dict[str, Any]:
        return {
            "batch_size": sampler.batch_size,
            "num_workers": self.num_workers,
            # An iterator draws its workers' base seed. Drawn from the global generator it would
            # shift the model's noise, and by another amount after a resume.
            "generator": sampler.worker_generator(),
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
        }

    def _ranks(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _per_rank(self) -> int:
        world_size = self._ranks()[1]
        if self.batch_size % world_size:
            raise ConfigError(
                f"batch_size={self.batch_size} is over all ranks together and not divisible by "
                f"{world_size} ranks; choose a multiple"
            )
        return self.batch_size // world_size

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Lightning hook: augments training batches on the device."""
        if self.trainer is None or not self.trainer.training:
            return batch
        return self.augmentation(batch, self.trainer.current_epoch)

    @cached_property
    def augmentation(self) -> ClipAugmentation:
        """Training augmentation on the device."""
        return ClipAugmentation(
            label_space=self.label_space,
            size=self.size,
            load_size=self.load_size,
            flip=self.flip,
            part_dropout=self.part_dropout,
            seed=self.seed,
        )

    def state_dict(self) -> dict[str, Any]:
        """Checkpoint state (the dataloader keeps its own position)."""
        return {"train_length": self.train_length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the checkpoint state."""
        self.train_length = state_dict["train_length"]

    def summary(self) -> list[dict[str, Any]]:
        """Statistics, one row per split: recordings, frames, clips, frames per clip, and recordings
        that are too short for one clip. Opens no image.
        """
        recordings, clips = self.reader.recordings(), self._split_clips()
        return [
            {
                "split": split,
                "recordings": sum(r.split == split for r in recordings),
                "frames": sum(r.n_frames for r in recordings if r.split == split),
                "clips": len(clips[split]),
                "clip_length": clips[split].length,
                "too_short": clips[split].too_short,
            }
            for split in SPLITS
        ]

    def _split_clips(self) -> dict[Split, ClipList]:
        """Clips of every split, by the rules.

        Raises:
            DataError: a split has none.
        """
        recordings = self.reader.recordings()
        return {
            "train": self.rules.train_clips(recordings),
            "val": self.rules.val_clips(recordings),
            "test": self.rules.test_clips(recordings),
        }

    def skipped(self) -> list[Skip]:
        """Raw data that is left out, with reasons. Opens no image."""
        return self.reader.skipped()


def _size(size: Sequence[int]) -> Size:
    height, width = size
    return int(height), int(width)
