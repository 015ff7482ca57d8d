"""Clips for Lightning: prepares the store, and serves training, validation and test clips.

Works without a Trainer too: `prepare_data()`, `setup()`, then the loaders.

Shapes: B batch, T time, H height, W width.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from hvp.data.augment import ClipAugmentation
from hvp.data.clips import ClipBatch, ClipId, collate
from hvp.data.packed import PreparedDataset, store_folder
from hvp.data.readers import SPLITS, Channel, Reader, Size
from hvp.data.rules import ClipList, ClipRules
from hvp.data.sampler import ClipSampler, ResumableLoader
from hvp.data.store import prepare
from hvp.errors import ConfigError, DataError
from hvp.labels import LabelSpace


class ClipDataset(Dataset[ClipBatch]):
    """Clips of a prepared dataset; each item is a `ClipBatch` of one clip."""

    def __init__(
        self,
        data: PreparedDataset,
        clips: Sequence[ClipId],
        length: int,
        channels: Sequence[Channel],
    ) -> None:
        """Args:
        data: where the frames lie.
        clips: which clips.
        length: frames per clip.
        channels: what to read; always with labels.
        """
        self.data = data
        self.clips = clips
        self.length = length
        self.channels = tuple(channels)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> ClipBatch:
        clip = self.clips[index]

        def read(channel: Channel) -> torch.Tensor | None:
            if channel not in self.channels:
                return None
            return torch.from_numpy(self.data.read(channel, clip, self.length))[None]

        labels, flow = read("labels"), read("flow")
        assert labels is not None
        if flow is not None:
            flow[:, 0] = 0  # to a frame outside the clip
        return ClipBatch(labels, [clip], read("frames"), flow)


class ClipDataModule(pl.LightningDataModule):
    """One dataset's clips for training, validation and prediction."""

    def __init__(
        self,
        reader: Reader,
        rules: ClipRules,
        data_dir: str | Path,
        size: Sequence[int],
        batch_size: int,
        channels: Sequence[Channel] = ("labels",),
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        source_size: Sequence[int] | None = None,
        load_size: Sequence[int] | None = None,
        flip: bool = True,
        part_dropout: float = 0.0,
        max_eval_clips: int | None = None,
        seed: int = 0,
    ) -> None:
        """Args:
        reader: the dataset in its raw layout.
        rules: which clips there are.
        data_dir: folder of all prepared data.
        size: height and width of the clips.
        batch_size: training clips per optimizer step, over all ranks together.
        channels: what the clips carry; `labels` always among them.
        eval_batch_size: clips per validation and prediction batch of one rank; None = a rank's
            share of `batch_size`.
        num_workers: loader processes per rank; 0 = load in the main process.
        source_size: training clips are stored at this size (None = load_size or size) ...
        load_size: ... resized to this on the device and cropped to `size` at random (None = no
            crop). Validation and prediction always see the whole picture at `size`.
        flip: mirror training clips at random.
        part_dropout: probability that a part is missing from a training frame (pose).
        max_eval_clips: predict at most this many test clips, evenly spread; None = all.
        seed: of the training order and the augmentation.

        Raises:
            ConfigError: the arguments contradict each other.
        """
        super().__init__()
        self.reader = reader
        self.rules = rules
        self.data_dir = Path(data_dir)
        self.size = _size(size)
        self.batch_size = batch_size
        self.channels = tuple(channels)
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.load_size = None if load_size is None else _size(load_size)
        if source_size is not None:
            self.source_size = _size(source_size)
        else:
            self.source_size = self.load_size or self.size
        self.flip = flip
        self.part_dropout = part_dropout
        self.max_eval_clips = max_eval_clips
        self.seed = seed
        self.train_length = rules.n_past + rules.n_future
        """Frames per training clip; may be changed between epochs (the Trainer then needs
        `reload_dataloaders_every_n_epochs=1`) and is kept in checkpoints."""
        self._check_arguments()

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
        if self.load_size is None and self.source_size != self.size:
            raise ConfigError(
                f"source_size={list(self.source_size)} differs from size={list(self.size)} but "
                "load_size is not set; set load_size to what is cropped, or drop source_size"
            )

    @property
    def label_space(self) -> LabelSpace:
        """Classes of the label maps."""
        return self.reader.label_space

    def prepare_data(self) -> None:
        """Pack what the store lacks (one process per node; safe when several do it)."""
        for size in dict.fromkeys((self.size, self.source_size)):
            prepare(self.reader, self.data_dir, size, self.channels)

    def setup(self, stage: str | None = None) -> None:
        """Nothing to do: prepared data is opened at first use."""

    @cached_property
    def data(self) -> PreparedDataset:
        """The prepared dataset at `size`: what is validated and predicted on."""
        return self._open(self.size)

    @cached_property
    def train_data(self) -> PreparedDataset:
        """The prepared dataset at `source_size`: what is trained on."""
        return self.data if self.source_size == self.size else self._open(self.source_size)

    def _open(self, size: Size) -> PreparedDataset:
        folder = store_folder(self.data_dir, self.reader.name, self.reader.settings(), size)
        return PreparedDataset.open(folder, self.channels)

    @property
    def longest_train_length(self) -> int:
        """Frames per training clip at which there still is one batch of clips."""
        return self.rules.longest(self.train_data.recordings, self.batch_size)

    @cached_property
    def test_clips(self) -> ClipList:
        """All test clips of the rule; their `length` is L."""
        return self.rules.test_clips(self.data.recordings)

    @property
    def eval_clips(self) -> list[ClipId]:
        """The test clips that are predicted: all, or `max_eval_clips` of them."""
        clips = self.test_clips
        return clips.spread(len(clips) if self.max_eval_clips is None else self.max_eval_clips)

    def train_dataloader(self) -> DataLoader:
        """Shuffled, augmented clips of `train_length` frames.

        Raises:
            DataError: there are fewer clips than one batch holds.
        """
        clips = self.rules.train_clips(self.train_data.recordings, self.train_length)
        if len(clips) < self.batch_size:
            raise DataError(
                f"dataset {self.reader.name!r}: {len(clips)} training clips of "
                f"{self.train_length} frames, batch_size={self.batch_size}; lower batch_size or "
                "add recordings"
            )
        dataset = ClipDataset(self.train_data, clips, self.train_length, self.channels)
        rank, world_size = self._ranks()
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        per_rank = self._per_rank()
        sampler = ClipSampler(
            dataset, per_rank, rank, world_size, shuffle=True, seed=self.seed, epoch=epoch
        )
        return ResumableLoader(
            dataset, sampler=sampler, drop_last=True, **self._loader_options(per_rank)
        )

    def val_dataloader(self) -> DataLoader:
        """Validation clips of n_past + n_future frames, in order."""
        clips = self.rules.val_clips(self.data.recordings)
        return self._eval_loader(clips, clips.length)

    def predict_dataloader(self) -> DataLoader:
        """Test clips of L frames, in order: n_past of context, then ground truth."""
        return self._eval_loader(self.eval_clips, self.test_clips.length)

    def _eval_loader(self, clips: Sequence[ClipId], length: int) -> DataLoader:
        dataset = ClipDataset(self.data, clips, length, self.channels)
        batch_size = self.eval_batch_size or self._per_rank()
        sampler = ClipSampler(dataset, batch_size, *self._ranks())
        return DataLoader(dataset, sampler=sampler, **self._loader_options(batch_size))

    def _loader_options(self, batch_size: int) -> dict[str, Any]:
        return {
            "batch_size": batch_size,
            "num_workers": self.num_workers,
            "collate_fn": collate,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
            # Or making an iterator would draw from the global one, which a resumed run cannot redo.
            "generator": torch.Generator().manual_seed(self.seed),
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
        """Augment training batches on the device."""
        if self.trainer is None or not self.trainer.training:
            return batch
        return self._augmentation(batch, self.trainer.current_epoch)

    @cached_property
    def _augmentation(self) -> ClipAugmentation:
        return ClipAugmentation(
            label_space=self.label_space,
            size=self.size,
            load_size=self.load_size,
            flip=self.flip,
            part_dropout=self.part_dropout,
            seed=self.seed,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps (the loader keeps its position itself)."""
        return {"train_length": self.train_length}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        self.train_length = state_dict["train_length"]

    def summary(self) -> list[dict[str, Any]]:
        """One row per split: recordings, frames, clips and frames per clip. Opens no picture."""
        recordings = self.reader.recordings()
        clips = {
            "train": self.rules.train_clips(recordings),
            "val": self.rules.val_clips(recordings),
            "test": self.rules.test_clips(recordings),
        }
        return [
            {
                "split": split,
                "recordings": sum(r.split == split for r in recordings),
                "frames": sum(r.n_frames for r in recordings if r.split == split),
                "clips": len(clips[split]),
                "clip_length": clips[split].length,
            }
            for split in SPLITS
        ]


def _size(size: Sequence[int]) -> Size:
    height, width = size
    return int(height), int(width)
