"""LightningDataModules of all datasets, built in Python and by Hydra."""

import json
from dataclasses import fields

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from hvp.data.datamodule import ClipDataModule
from hvp.data.datasets import (
    AvenueDataModule,
    CityscapesDataModule,
    DensePoseDataModule,
    FolderDataModule,
    Human36MDataModule,
    KITTIDataModule,
    SyntheticDataModule,
    WalkerDataModule,
)
from hvp.data.readers.base import Skip
from hvp.data.synthetic.write_pose import VIDEOPOSE3D_FILE, write_human36m
from hvp.errors import ConfigError, DataError
from tests.helpers.commands import ROOT
from tests.helpers.raw_trees import RULES, cityscapes_tree, densepose_tree, folder_tree, kitti_tree

DATASETS = sorted(
    path for path in (ROOT / "conf" / "dataset").glob("*.yaml") if path.stem[0] != "_"
)


def make(name, tmp_path, **options):
    root = tmp_path / "raw"
    clips = {"rules": RULES, "data_dir": tmp_path / "data", "size": (32, 32), "batch_size": 2}
    clips |= {"channels": ("labels", "frames"), **options}
    if name == "kitti":
        return KITTIDataModule(
            root=kitti_tree(root),
            val=["2011_09_26_drive_0005"],
            test=["2011_09_26_drive_0070"],
            exclude=[("2011_09_28_drive_0054", "2011_09_28_drive_0220")],
            view_size=(12, 16),
            **clips,
        )
    if name == "cityscapes":
        return CityscapesDataModule(root=cityscapes_tree(root), stored_size=(16, 32), **clips)
    if name == "densepose":
        return DensePoseDataModule(root=densepose_tree(root), **clips)
    if name == "folder":
        return FolderDataModule(root=folder_tree(root), val=["b"], test=["a"], **clips)
    if name == "human36m":
        write_human36m(
            root, "npz", ("S1", "S8", "S9", "S11"), takes=1, n_frames=7, cameras=("54138969",),
            size=(96, 96),
        )  # fmt: skip
        return Human36MDataModule(
            root=root, joints=VIDEOPOSE3D_FILE, train=["S1", "S8"], val=["S8"], test=["S9"],
            cameras=["54138969"], margin=0.05, **{**clips, "channels": ("labels",)},
        )  # fmt: skip
    world = {
        "synthetic": SyntheticDataModule, "avenue": AvenueDataModule, "walker": WalkerDataModule,
    }[name]  # fmt: skip
    return world(n_train=2, n_val=1, n_test=1, frames_per_recording=7, frame_rate=5.0, **clips)


def make_again(data, **changes):
    """A data module with the same arguments but for `changes`."""
    options = {field.name: getattr(data, field.name) for field in fields(data)}
    return type(data)(**{**options, **changes})


class Sees(pl.LightningModule):
    """Records the recordings it was trained and validated on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained, self.validated = set(), set()

    def training_step(self, batch, batch_idx):
        assert batch.labels_BTHW.shape == (2, 4, 32, 32)
        if batch.frames_BT3HW is not None:
            assert batch.frames_BT3HW.shape == (2, 4, 3, 32, 32)
        self.trained |= {identity.recording for identity in batch.ids}
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.validated |= {identity.recording for identity in batch.ids}

    def predict_step(self, batch, batch_idx):
        return batch.ids

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


D26 = "2011_09_26/2011_09_26_drive_"
TRAINED_VALIDATED_TESTED = {
    "kitti": (
        {f"{D26}0001_sync", f"{D26}0002_sync-000000"},
        {f"{D26}0005_sync"},
        {f"{D26}0070_sync"},
    ),
    "cityscapes": ({"aachen_000000_000000"}, {"munster_000003_000000"}, {"munster_000003_000000"}),
    "densepose": ({"V00001/C00001"}, {"V00002/C00001"}, {"V00002/C00001"}),
    "folder": ({"c"}, {"b"}, {"a"}),
    "synthetic": (
        {"driving-train-0000", "driving-train-0001"},
        {"driving-val-0000"},
        {"driving-test-0000"},
    ),
    "avenue": (
        {"avenue-train-0000", "avenue-train-0001"},
        {"avenue-val-0000"},
        {"avenue-test-0000"},
    ),
    "walker": (
        {"walker-train-0000", "walker-train-0001"},
        {"walker-val-0000"},
        {"walker-test-0000"},
    ),
    "human36m": tuple({f"{subject}/Walking.54138969"} for subject in ("S1", "S8", "S9")),
}


@pytest.mark.parametrize("name", TRAINED_VALIDATED_TESTED)
def test_a_trainer_fits_and_predicts_on_each_dataset_without_hydra(tmp_path, name):
    data, model = make(name, tmp_path), Sees()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    predicted = {i.recording for ids in trainer.predict(model, datamodule=data) for i in ids}
    expected = TRAINED_VALIDATED_TESTED[name]
    assert (model.trained, model.validated, predicted) == expected


SKIPPED = {
    "kitti": [
        Skip(
            "excluded drive (dataset.datamodule.exclude)",
            (
                "2011_09_28/2011_09_28_drive_0054_sync",
                "2011_09_28/2011_09_28_drive_0220_sync",
            ),
            7,
        )
    ],
    "cityscapes": [
        Skip("official split 'test' (dataset.datamodule.evaluate_on)", ("bonn_000001",), 5)
    ],
    "densepose": [Skip("not named in split.json", ("V00001/C00002",), 6)],
    "folder": [Skip("neither label/ nor RGB in it", ("notes",), 0)],
    "synthetic": [],
    "avenue": [],
    "walker": [],
    "human36m": [
        Skip("excluded take (dataset.datamodule.exclude)", (), 0),
        Skip(
            "subject of no split (dataset.datamodule.train, val, test)",
            ("S11/Walking.54138969",),
            7,
        ),
    ],
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_is_left_out_is_counted(tmp_path, name):
    assert make(name, tmp_path).skipped() == SKIPPED[name]


def test_runs_too_short_for_a_clip_are_counted(tmp_path):
    train = make("kitti", tmp_path).summary()[0]
    assert train == {
        "split": "train", "recordings": 3, "frames": 13, "clips": 5, "clip_length": 4,
        "too_short": 1,
    }  # fmt: skip


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.stem)
def test_configuration_names_every_field_of_a_dataset_and_no_other(path):
    config = OmegaConf.load(path)
    parents = [OmegaConf.load(path.parent / f"{name}.yaml") for name in config.defaults]
    merged = OmegaConf.merge(*(parent for parent in parents if "datamodule" in parent), config)
    block = OmegaConf.to_container(merged.datamodule, resolve=False)
    cls = get_class(block.pop("_target_"))
    assert issubclass(cls, ClipDataModule)
    base = {field.name for field in fields(ClipDataModule)}
    assert set(block) == {field.name for field in fields(cls)} - base


@pytest.mark.parametrize("name", ["kitti", "synthetic"])
def test_arguments_are_keywords_and_a_wrong_one_is_named(tmp_path, name):
    with pytest.raises(TypeError, match="btch_size"):
        make(name, tmp_path, btch_size=3)
    with pytest.raises(ConfigError, match="load_size"):
        make(name, tmp_path / "again", load_size=(4, 4))


def test_a_root_that_is_not_there_is_named_when_the_module_is_made(tmp_path):
    with pytest.raises(DataError, match=r"nowhere is not a folder.*data_root"):
        FolderDataModule(
            root=tmp_path / "nowhere", rules=RULES, data_dir=tmp_path, size=(8, 8), batch_size=1
        )


@pytest.mark.parametrize("name", TRAINED_VALIDATED_TESTED)
def test_digests_without_prepared_data_are_those_of_the_prepared(tmp_path, name):
    sizes = {"size": (32, 32), "load_size": (32, 40), "source_size": (40, 48)}
    data = make(name, tmp_path, **sizes)
    digests = data.data_digest, data.train_data_digest
    assert not (tmp_path / "data").exists()
    data.prepare_data()
    assert digests == (data.data.digest, data.train_data.digest)
    assert digests[0] != digests[1]


@pytest.mark.parametrize("name", ["kitti", "cityscapes", "densepose", "folder", "human36m"])
def test_settings_do_not_depend_on_where_the_raw_data_lies(tmp_path, name, monkeypatch):
    data = make(name, tmp_path)
    before = data.reader.settings()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    for root in ("raw", tmp_path / "elsewhere" / ".." / "raw"):
        assert make_again(data, root=root).reader.settings() == before
    (tmp_path / "raw").rename(tmp_path / "elsewhere" / "moved")
    moved = make_again(data, root=tmp_path / "elsewhere" / "moved")
    assert moved.reader.settings() == before
    assert str(tmp_path) not in json.dumps(before)


@pytest.mark.parametrize(("name", "expected"), [("folder", True), ("human36m", False)])
def test_a_data_module_knows_whether_all_recordings_have_frames(tmp_path, name, expected):
    data = make(name, tmp_path)
    assert data.has_frames is expected
    if expected:
        for file in (tmp_path / "raw" / "b" / "rgb").iterdir():
            file.unlink()
        (tmp_path / "raw" / "b" / "rgb").rmdir()
        with pytest.raises(DataError, match=r"1 of 3 recordings have no RGB \(b\); .*exclude"):
            make_again(data).has_frames  # noqa: B018
        assert make_again(data, exclude=["b"], val=None).has_frames
