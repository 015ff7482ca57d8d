import pickle

import pytest
import pytorch_lightning as pl
import torch

from hvp.clips import ClipId
from hvp.data.readers.base import Recording
from hvp.data.rules import ClipRules
from hvp.data.sampler import ClipSampler, StatefulDataLoader
from hvp.errors import ConfigError, DataError
from tests.helpers.small_reader import NumberedDataModule, recordings

RULES = {
    "n_past": 2, "n_future": 3, "n_eval": 6, "step": 1, "eval_offset": 0, "eval_stride": 2,
    "min_eval_clips": 3,
}  # fmt: skip


def module(tmp_path, rules=None, **options):
    options = {"size": (8, 8), "batch_size": 4, "channels": ("labels", "frames", "flow")} | options
    options = {"recorded": recordings(test=2), "data_dir": tmp_path} | options
    data = NumberedDataModule(rules=ClipRules(**{**RULES, **(rules or {})}), **options)
    data.prepare_data()
    data.setup("fit")
    return data


def test_batches_have_the_promised_shapes_and_types(tmp_path):
    data = module(tmp_path)
    batch = next(iter(data.train_dataloader()))
    assert batch.labels_BTHW.shape == (4, 5, 8, 8)
    assert batch.labels_BTHW.dtype == torch.uint8
    assert batch.frames_BT3HW.shape == (4, 5, 3, 8, 8)
    assert batch.frames_BT3HW.dtype == torch.uint8
    assert batch.flow_BT2HW.shape == (4, 5, 2, 8, 8)
    assert batch.flow_BT2HW.dtype == torch.float32
    assert (batch.flow_BT2HW[:, 0] == 0).all()
    for labels, frames, identity in zip(
        batch.labels_BTHW, batch.frames_BT3HW, batch.ids, strict=True
    ):
        shown = [identity.first + i for i in range(5)]
        assert labels[:, 0, 0].tolist() == shown
        assert frames[:, 0, 0, 0].tolist() == shown
        assert identity.recording.startswith("train/")


def test_labels_alone_carry_no_frames(tmp_path):
    data = module(tmp_path, channels=("labels",))
    batch = next(iter(data.train_dataloader()))
    assert batch.frames_BT3HW is None
    assert batch.flow_BT2HW is None
    assert {channel for _, channel in data.reader.opened} == {"labels"}


def test_val_and_predict_clips_follow_the_rules_in_order(tmp_path):
    data = module(tmp_path)
    clips = [identity for batch in data.val_dataloader() for identity in batch.ids]
    assert clips == [ClipId("val/0", first, 1) for first in range(8)]
    batches = list(data.predict_dataloader())
    assert data.test_clips.length == 8
    assert all(batch.labels_BTHW.shape[1] == 8 for batch in batches)
    clips = [identity for batch in batches for identity in batch.ids]
    assert clips == [ClipId(f"test/{i}", first, 1) for i in range(2) for first in (0, 2, 4)]


def test_max_eval_clips_are_spread_over_the_test_split(tmp_path):
    data = module(tmp_path, max_eval_clips=2, eval_batch_size=1)
    clips = [identity for batch in data.predict_dataloader() for identity in batch.ids]
    assert clips == [ClipId("test/0", 0, 1), ClipId("test/1", 4, 1)]


def test_training_length_can_grow(tmp_path):
    data = module(tmp_path)
    assert data.longest_train_length == 11
    data.train_length = 11
    assert next(iter(data.train_dataloader())).labels_BTHW.shape[1] == 11
    data.train_length = 12
    with pytest.raises(DataError, match="3 training clips of 12 frames, batch_size=4"):
        data.train_dataloader()


def test_summary_counts_recordings_frames_and_clips(tmp_path):
    short = [Recording(f"short/{i}", "train", 4) for i in range(2)]
    data = NumberedDataModule(
        recorded=recordings(test=2) + short,
        rules=ClipRules(**RULES),
        data_dir=tmp_path,
        size=(8, 8),
        batch_size=1,
    )
    columns = ("split", "recordings", "frames", "clips", "clip_length", "too_short")
    assert [tuple(row) for row in data.summary()] == [columns] * 3
    assert [tuple(row.values()) for row in data.summary()] == [
        ("train", 5, 44, 24, 5, 2),
        ("val", 1, 12, 8, 5, 0),
        ("test", 2, 24, 6, 8, 0),
    ]
    assert data.reader.opened == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ("frames",)}, "labels must be among them"),
        ({"rules": {"step": 2}}, "exact flow"),
        ({"load_size": (6, 9)}, "smaller than size"),
        ({"source_size": (10, 10)}, "load_size is not set"),
    ],
)
def test_contradictory_arguments_are_config_errors(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        module(tmp_path, **options)


def order(seed, epoch, rank=0, world_size=1, n=50, batch=4):
    return list(ClipSampler(range(n), batch, rank, world_size, True, seed, epoch))


def test_training_order_depends_on_seed_and_epoch_only():
    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert len(order(1, 0)) == 48


@pytest.mark.parametrize("world_size", [2, 3])
def test_training_shards_are_disjoint_and_make_up_the_single_process_order(world_size):
    shards = [order(1, 5, rank, world_size, batch=2) for rank in range(world_size)]
    assert len({len(shard) for shard in shards}) == 1
    merged = [i for group in zip(*shards, strict=True) for i in group]
    assert merged == order(1, 5, batch=2 * world_size)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_evaluation_shards_are_disjoint_and_cover_every_clip(world_size):
    shards = [ClipSampler(range(50), 4, rank, world_size) for rank in range(world_size)]
    assert sorted(i for shard in shards for i in shard) == list(range(50))
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_deliver_the_same_batches_forked_or_spawned(tmp_path, start):
    data = module(tmp_path)
    alone = list(data.train_dataloader())
    data.num_workers = 1 if start == "spawn" else 2  # a spawned one takes seconds to import torch
    loader = data.train_dataloader()
    loader.multiprocessing_context = start
    for batch, expected in zip(loader, alone, strict=True):
        assert batch.ids == expected.ids
        assert torch.equal(batch.labels_BTHW, expected.labels_BTHW)
        assert torch.equal(batch.frames_BT3HW, expected.frames_BT3HW)
        assert torch.equal(batch.flow_BT2HW, expected.flow_BT2HW)


def test_spawned_workers_are_not_sent_the_images(tmp_path):
    data = module(tmp_path, recorded=recordings(frames=200), size=(64, 64))
    dataset = data.train_dataloader().dataset
    dataset[0]
    assert len(pickle.dumps(dataset)) < 20_000  # one recording has 800 kB of labels alone


def test_workers_stay_between_epochs_and_memory_is_pinned_for_a_gpu(tmp_path, monkeypatch):
    data = module(tmp_path)
    assert not data.train_dataloader().persistent_workers
    data.num_workers = 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()):
        assert loader.persistent_workers
        assert loader.pin_memory
        assert loader.num_workers == 1


def test_loading_leaves_the_global_random_numbers_alone(tmp_path):
    data = module(tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def worker_seed(seed=1, epoch=0, rank=0, world_size=2):
    sampler = ClipSampler(range(8), 2, rank, world_size, True, seed, epoch)
    return sampler.worker_generator().initial_seed()


def test_workers_are_seeded_by_seed_epoch_and_rank():
    assert worker_seed() == worker_seed()
    others = [worker_seed(seed=2), worker_seed(epoch=1), worker_seed(rank=1), worker_seed()]
    assert len(set(others)) == 4


class Recorder(pl.LightningModule):
    """Records the clips it was trained on; stops the process at one batch."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.stop_at = stop_at
        self.seen = []

    def training_step(self, batch, batch_idx):
        if self.stop_at == (self.current_epoch, batch_idx):
            raise KeyboardInterrupt
        self.seen.append((self.current_epoch, batch_idx, tuple(batch.ids)))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        pass

    def predict_step(self, batch, batch_idx):
        return batch.ids

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(folder, **options):
    callback = pl.callbacks.ModelCheckpoint(
        folder, filename="last", every_n_train_steps=1, save_top_k=1, enable_version_counter=False
    )
    return pl.Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback], default_root_dir=folder,
        **{"reload_dataloaders_every_n_epochs": 1, **options},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stop_at", "workers", "reload"),
    [((0, 2), 0, 1), ((1, 0), 0, 1), ((1, 4), 0, 1), ((2, 5), 0, 1), ((1, 4), 1, 0)],
)
def test_interrupted_training_goes_on_with_the_next_batch(tmp_path, stop_at, workers, reload):
    """Dataloaders reloaded every epoch, or kept with persistent workers."""

    def fit(folder, model, **options):
        data = module(tmp_path, num_workers=workers)
        fitting = trainer(tmp_path / folder, reload_dataloaders_every_n_epochs=reload)
        fitting.fit(model, datamodule=data, **options)

    whole, first, second = Recorder(), Recorder(stop_at), Recorder()
    fit("a", whole)
    assert len(whole.seen) == 18
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        fit("b", first)
    fit("b", second, ckpt_path=tmp_path / "b" / "last.ckpt")
    assert first.seen + second.seen == whole.seen


def test_checkpoint_keeps_the_training_length(tmp_path):
    data = module(tmp_path)
    data.train_length = 8
    trainer(tmp_path).fit(Recorder(), datamodule=data)
    resumed = module(tmp_path)
    resumed_trainer = trainer(tmp_path)
    resumed_trainer.fit(Recorder(), datamodule=resumed, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.train_length == 8


def test_lightning_predicts_every_clip_once(tmp_path):
    data = module(tmp_path)
    predicted = trainer(tmp_path).predict(Recorder(), datamodule=data)
    assert [identity for ids in predicted for identity in ids] == data.eval_clips


class RankRecorder(Recorder):
    """Each rank saves the clips it saw."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_end(self):
        torch.save([ids for _, _, ids in self.seen], self.folder / f"{self.global_rank}.pt")


def test_two_ranks_train_on_the_batches_of_one(tmp_path):
    alone = Recorder()
    trainer(tmp_path / "one").fit(alone, datamodule=module(tmp_path))
    two = trainer(tmp_path / "two", devices=2, strategy="ddp_fork")
    two.fit(RankRecorder(tmp_path), datamodule=module(tmp_path))
    with torch.serialization.safe_globals([ClipId]):
        shards = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2)]
    for (_, _, whole), *parts in zip(alone.seen, *shards, strict=True):
        assert {*parts[0], *parts[1]} == set(whole)
        assert len(parts[0]) == len(parts[1]) == 2


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_batches_pass_lightnings_precision_conversion(tmp_path, precision):
    model = Recorder()
    trainer(tmp_path, precision=precision, limit_train_batches=1).fit(
        model, datamodule=module(tmp_path)
    )
    assert len(model.seen) == 3


def test_loader_state_of_another_epoch_is_not_applied():
    sampler = ClipSampler(range(8), 2, shuffle=True, epoch=1)
    loader = StatefulDataLoader(range(8), 2, sampler=sampler)
    loader.load_state_dict({"epoch": 0, "batches": 4})
    assert len(list(loader)) == 4
    loader.load_state_dict({"epoch": 1, "batches": 3})
    assert len(list(loader)) == 1
    assert len(list(loader)) == 4


def test_training_batches_are_augmented_and_validation_is_not(tmp_path):
    class Mirrored(Recorder):
        mirrored = 0

        def training_step(self, batch, batch_idx):
            columns = batch.frames_BT3HW[:, 0, 2, 0]
            self.mirrored += int((columns[:, 0] == 7).sum())
            return self.weight.sum()

        def validation_step(self, batch, batch_idx):
            assert (batch.frames_BT3HW[:, 0, 2, 0, 0] == 0).all()

    model = Mirrored()
    trainer(tmp_path).fit(model, datamodule=module(tmp_path))
    assert 20 < model.mirrored < 52


def test_stored_at_source_size_cropped_for_training_whole_for_prediction(tmp_path):
    data = module(tmp_path, size=(8, 8), source_size=(12, 12), load_size=(10, 10))
    shapes = []

    class Shapes(Recorder):
        def training_step(self, batch, batch_idx):
            shapes.append(tuple(batch.labels_BTHW.shape[2:]))
            return self.weight.sum()

    trainer(tmp_path, limit_train_batches=1).fit(Shapes(), datamodule=data)
    assert next(iter(data.train_dataloader())).labels_BTHW.shape[2:] == (12, 12)
    assert set(shapes) == {(8, 8)}
    assert next(iter(data.predict_dataloader())).labels_BTHW.shape[2:] == (8, 8)


def test_global_batch_is_divided_among_ranks(tmp_path, monkeypatch):
    data = module(tmp_path)
    monkeypatch.setattr(data, "_ranks", lambda: (1, 2))
    assert len(next(iter(data.train_dataloader())).ids) == 2
    monkeypatch.setattr(data, "_ranks", lambda: (0, 3))
    with pytest.raises(ConfigError, match="not divisible by 3 ranks"):
        data.train_dataloader()
