"""Settings digests: they change with settings that change a result, and with no others."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hvp.config.build import build_datamodule
from hvp.config.digests import fit_settings, run_digest, training_settings
from hvp.config.settings import dataset_settings
from tests.helpers.commands import composed
from tests.helpers.raw_trees import kitti_tree

STRUCTURE = "stage=structure"
EARLY = "+callbacks.early={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/loss}"
OWN = "+callbacks.own={_target_: my_package.Whatever, strength: 3}"


def settings(*overrides: str) -> dict[str, Any]:
    return training_settings(composed(*overrides))


@pytest.mark.parametrize(
    "override",
    [
        "trainer.devices=2", "logger=all", "dataset.rollout.samples=3", "dataset.num_workers=2",
        "dataset.rules.n_eval=7", "dataset.datamodule.n_test=99", "force=true",
        "dataset.image.part_dropout=0.1", "dataset.flip.image=false", "work_dir=/elsewhere",
        "model.structure.eval_batch_size=2", "callbacks.samples=null", "video_fps=3",
        "trainer.log_every_n_steps=3", "trainer.val_check_interval=7", "trainer.profiler=simple",
        "+callbacks.stats={_target_: pytorch_lightning.callbacks.DeviceStatsMonitor}",
        "callbacks.checkpoint.keep=5", "model.image.module.lr=1", "flow=raft_small",
    ],
)  # fmt: skip
def test_what_cannot_change_the_weights_does_not_count(override: str) -> None:
    assert settings(STRUCTURE, override) == settings(STRUCTURE)


@pytest.mark.parametrize(
    "override",
    [
        "seed=2", "model.beta=2e-3", "trainer.max_steps=7", "dataset.rules.n_future=6",
        "dataset.flip.structure=false", "model.structure.batch_size=3", "dataset.size=[128,128]",
        "trainer.fast_dev_run=true", "trainer.gradient_clip_val=1.0", "trainer.precision=64-true",
        "+trainer.a_key_of_some_later_version=1", "trainer.overfit_batches=2", EARLY, OWN,
        "callbacks.checkpoint.monitor=val/miou", "model.structure.ema_decay=0.9",
        "+callbacks.timer={_target_: pytorch_lightning.callbacks.Timer, duration: '00:00:01:00'}",
        "model.structure.module._target_=mine.OtherSVGLP", "trainer.limit_val_batches=0",
        "dataset.version=2", "model.structure.version=2", "model.structure.name=mine",
    ],
)  # fmt: skip
def test_what_decides_the_weights_counts_also_what_nobody_has_heard_of(override: str) -> None:
    assert settings(STRUCTURE, override) != settings(STRUCTURE)


def test_validation_counts_where_a_callback_goes_by_it() -> None:
    other = "trainer.val_check_interval=7"
    assert settings(STRUCTURE, EARLY, other) != settings(STRUCTURE, EARLY)


def test_moving_code_orphans_nothing() -> None:
    moved = composed(STRUCTURE)
    module = OmegaConf.to_container(moved.model.structure.module, resolve=True)
    assert isinstance(module, dict)
    module["_target_"] = "somewhere.else.SVGLP"
    module["network"]["_target_"] = "hvp.another.place.SVGLPNetwork"
    moved.model.structure.module = module
    assert training_settings(moved) == settings(STRUCTURE)
    assert run_digest(moved) == run_digest(composed(STRUCTURE))


def test_prediction_options_of_the_model_leave_its_weights_alone() -> None:
    frozen = "model.structure.module.rollout_skip=frozen"
    first, other = settings(STRUCTURE), settings(STRUCTURE, frozen)
    assert fit_settings(first, {}, None) != fit_settings(other, {}, None)
    options = ("rollout_skip",)
    assert fit_settings(first, {}, None, options) == fit_settings(other, {}, None, options)


def test_where_raw_data_lies_does_not_count_but_what_it_holds(tmp_path: Path) -> None:
    def data(root: Path | str) -> dict[str, Any]:
        config = composed("dataset=kitti", f"data_root={root}", f"work_dir={tmp_path}")
        return build_datamodule(dataset_settings(config), ("labels",)).training_data()

    tree = kitti_tree(tmp_path / "raw")
    first = data(tree)
    assert data(f"{tree.parent}/./{tree.name}/") == first
    moved = tmp_path / "moved"
    tree.rename(moved)
    assert data(moved) == first
    label = next(moved.rglob("color_mask_*.png"))
    label.write_bytes(label.read_bytes() + b"\0")
    assert data(moved) != first

    base = ("stage=structure", "dataset=kitti")
    spelt = {run_digest(composed(*base, f"data_root={p}")) for p in (moved, f"{moved}/../moved/")}
    assert len(spelt) == 1
    assert run_digest(composed(*base, f"data_root={tmp_path}")) not in spelt
