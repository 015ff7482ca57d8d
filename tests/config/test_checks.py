"""The checks at the door: each mistake ends in a sentence that names its key, before any work."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from hvp.config.checks import check_config
from hvp.config.checks.table import MODEL_RULES, RULES
from hvp.config.checks.trainer import OWN
from hvp.config.checks.trainer import RULES as TRAINER_RULES
from hvp.errors import ConfigError
from tests.helpers.commands import ROOT, composed

DATASETS = [p.stem for p in (ROOT / "conf" / "dataset").glob("[!_]*.yaml")]

# What was typed, and how the sentence begins. RAW stands for a folder of raw data.
KITTI = "dataset=kitti data_root=RAW"
MISTAKES = [
    ("seed=-1", "seed=-1: expected a whole number from 0 to 4294967295"),
    ("seed=one", "seed=one: expected a whole number"),
    ("seed=true", "seed=true: expected a whole number"),
    ("seed=null", "seed=null: expected a whole number"),
    ("seed=1e3", "seed=1000.0: expected a whole number from 0 to 4294967295; write it without"),
    ("fit=maybe", "fit=maybe: expected true or false"),
    ("predict=1", "predict=1: expected true or false"),
    ("force=yes", "force=yes: expected true or false"),
    ("video_fps=0", "video_fps=0: expected a number > 0"),
    ("aliases=best", "aliases=best: expected a list of names; write them in brackets"),
    ("aliases=[v3]", "aliases=[v3]: alias 'v3': looks like a version"),
    ("predictions=a/b", "predictions=a/b: expected an artifact"),
    ("videos=5", "videos=5: expected an artifact"),
    ("stage=structure checkpoint=no.ckpt", "checkpoint=no.ckpt: no such file"),
    ("checkpoint=a:v0", "checkpoint is set, but stage=pipeline trains two models"),
    ("predict=false", "predict=false: stage=pipeline needs predictions"),
    ("stage=structure fit=false predict=false", "fit=false and predict=false: nothing to do"),
    ("stage=structure stage.model=foo", "stage.model=foo: expected one of structure, image"),
    ("+datset=3", "unknown key datset: nothing reads it; did you mean dataset?"),
    ("~seed", "seed has no value: it was taken away"),
    ("~dataset.rules", "dataset.rules has no value: it was taken away"),
    ("logger=[]", "logger has no value: it was taken away"),
    ("dataset.rules=5", "dataset.rules=5: expected a group of keys"),
    ("dataset.datamodule=null", "dataset.datamodule=null: expected a group of keys"),
    ("model.structure=null", "model.structure=null: expected a group of keys"),
    ("seed=${foo}", "callbacks.samples.seed: cannot be resolved (Interpolation key 'foo'"),
    ("work_dir=/proc/x", "work_dir=/proc/x: /proc cannot be written to"),
    ("data_dir=/proc/x", "data_dir=/proc/x: /proc cannot be written to"),
    ("data_dir=/etc/passwd/x", "data_dir=/etc/passwd/x: /etc/passwd is a file"),
    ("data_dir=null", "data_dir=null: expected text"),
    # The dataset.
    ("dataset.name=a/b", "dataset.name=a/b: expected letters, digits"),
    ("dataset.size=64", "dataset.size=64: expected [height, width] in pixels"),
    ("dataset.size=[64]", "dataset.size=[64]: expected [height, width] in pixels"),
    ("dataset.size=[64,true]", "dataset.size=[64, true]: expected [height, width] in pixels"),
    ("dataset.size=[65,64]", "dataset.size=[65, 64]: expected one of [64, 64], [128, 128]"),
    ("stage=image dataset.size=[30,30]", "dataset.size=[30, 30]: expected multiples of 4"),
    ("dataset.classes=no.json", "dataset.classes=no.json: neither a built-in label space"),
    ("dataset.classes=null", "dataset.classes=null: expected text"),
    ("dataset.classes=densepose", "dataset.classes=densepose: expected cityscapes, the classes"),
    ("dataset.n_classes=5", "dataset.n_classes=5: expected 19, the classes of"),
    ("dataset.rules.n_past=0", "dataset.rules.n_past=0: expected a whole number >= 1"),
    ("dataset.rules.n_past=1", "dataset.rules.n_past=1: expected at least 2, as model.image"),
    ("dataset.rules.step=1.5", "dataset.rules.step=1.5: expected a whole number >= 1"),
    ("dataset.rules.step=2 flow=ground_truth", "flow=ground_truth: model.image.module.flow_t"),
    ("dataset.rollout.samples=0", "dataset.rollout.samples=0: expected a whole number >= 1"),
    ("dataset.max_eval_clips=0", "dataset.max_eval_clips=0: expected a whole number >= 1, or"),
    ("dataset.num_workers=-1", "dataset.num_workers=-1: expected a whole number >= 0"),
    ("dataset.flip.image=1", "dataset.flip.image=1: expected true or false"),
    ("dataset.image.part_dropout=2", "dataset.image.part_dropout=2: expected a number from 0"),
    ("dataset.image.load_size=[32,32]", "dataset.image.load_size=[32, 32]: expected at least"),
    ("dataset.image.source_size=[90,90]", "dataset.image.source_size=[90, 90]: needs"),
    ("dataset.datamodule.n_train=many", "dataset.datamodule.n_train=many: expected a whole"),
    ("dataset.datamodule.frame_rate=0", "dataset.datamodule.frame_rate=0: expected a number"),
    ("+dataset.datamodule.test=[a]", "dataset.datamodule.test: SyntheticDataModule has no"),
    ("dataset.datamodule._target_=torch.nn.Linear", "dataset.datamodule._target_=torch.nn.Lin"),
    ("+dataset.rules.n_pasty=3", "dataset.rules.n_pasty: ClipRules has no such argument; did"),
    ("dataset=kitti", "data_root is not set: dataset=kitti reads raw data from disk"),
    ("dataset=kitti data_root=/no", "data_root=/no: does not exist"),
    ("dataset=kitti data_root=/etc/passwd", "data_root=/etc/passwd: is a file"),
    (f"{KITTI} dataset.datamodule.labels_root=/no", "dataset.datamodule.labels_root=/no: does"),
    (f"{KITTI} dataset.datamodule.test=12", "dataset.datamodule.test=12: expected a list of"),
    (f"{KITTI} dataset.datamodule.test=[2011_09_26]", "dataset.datamodule.test=[20110926]: ex"),
    (f"{KITTI} dataset.datamodule.val=[12]", "dataset.datamodule.val=[12]: expected a list of"),
    (f"{KITTI} dataset.datamodule.exclude=[2011]", "dataset.datamodule.exclude=[2011]: expect"),
    (f"{KITTI} dataset.datamodule.test=[2011_09_26_drive_0005]", "dataset.datamodule.test="),
    (f"{KITTI} flow=ground_truth", "flow=ground_truth: model.image.module.flow_teacher needs"),
    (f"{KITTI} dataset.extract_labels.batch_size=0", "dataset.extract_labels.batch_size=0: ex"),
    ("dataset=human36m data_root=RAW dataset.datamodule.cameras=[54138969]",
     "dataset.datamodule.cameras=[54138969]: expected a list of names"),
    ("dataset=human36m data_root=RAW dataset.datamodule.train=[S9]",
     "dataset.datamodule.test=[S9, S11]: S9 is in dataset.datamodule.train too"),
    ("dataset=human36m data_root=RAW dataset.datamodule.margin=0.7",
     "dataset.datamodule.margin=0.7: expected a number >= 0 and < 0.5"),
    ("dataset=cityscapes data_root=RAW dataset.datamodule.gt_fine=testt",
     "dataset.datamodule.gt_fine=testt: expected one of none, test, all; did you mean test?"),
    ("dataset=folder data_root=RAW dataset.datamodule.test=drive_01",
     "dataset.datamodule.test=drive_01: expected a list of names"),
    # The models.
    ("model.beta=-1", "model.beta=-1: expected a number >= 0"),
    ("model.beta=.nan", "model.beta=.nan: expected a number >= 0"),
    ("model.beta=inf", "model.beta=inf: expected a number >= 0"),
    ("model.structure.module.lr=abc", "model.structure.module.lr=abc: expected a number > 0"),
    ("model.structure.module.lr=nan", "model.structure.module.lr=nan: expected a number > 0"),
    ("model.structure.module.lr=-1", "model.structure.module.lr=-1: expected a number > 0"),
    ("model.structure.module.lr=0", "model.structure.module.lr=0: expected a number > 0"),
    ("model.structure.module.betas=[0.9,1.0]", "model.structure.module.betas=[0.9, 1.0]: exp"),
    ("model.structure.module.train_skip=newest", "model.structure.module.train_skip=newest: e"),
    ("model.structure.module.rollout_skip=latst",
     "model.structure.module.rollout_skip=latst: expected one of frozen, latest (skip "
     "connections in roll-outs); did you mean latest?"),
    ("model.structure.module.free_running=1.5", "model.structure.module.free_running=1.5: exp"),
    ("model.structure.module.window=0", "model.structure.module.window=0: expected a whole"),
    ("model.structure.module.scheduler=cosine", "model.structure.module.scheduler=cosine: exp"),
    ("model.structure.module.network.base_width=0",
     "model.structure.module.network.base_width=0: expected a whole number >= 1"),
    ("model.structure.module.network.n_classes=20",
     "model.structure.module.network.n_classes=20: expected 19, that of dataset.n_classes"),
    ("model.structure.module._target_=no.Such", "model.structure.module._target_=no.Such: can"),
    ("model.structure.module._target_=torch.nn.Linear",
     "model.structure.module._target_=torch.nn.Linear: is no model"),
    ("+model.structure.module.lrr=1", "model.structure.module.lrr: SVGLP has no such argument; "
     "did you mean lr?"),
    ("model.structure.batch_size=0", "model.structure.batch_size=0: expected a whole number >= "
     "1 (clips per optimiser step); give such a value, or leave it out for its default"),
    ("model.structure.ema_decay=1", "model.structure.ema_decay=1: expected a number >= 0 and <"),
    ("stage=svg_rgb model.svg_rgb.module.lr=0", "model.svg_rgb.module.lr=0: expected a number"),
    ("model.image.ema_decay=-0.1", "model.image.ema_decay=-0.1: expected a number >= 0 and < 1"),
    ("model.image.module.generator.n_frames_G=1", "model.image.module.generator.n_frames_G=1:"),
    ("model.image.module.generator.ngf=0", "model.image.module.generator.ngf=0: expected a"),
    ("model.image.module.generator.norm=group", "model.image.module.generator.norm=group: exp"),
    ("model.image.module.generator.n_down=6", "dataset.size=[64, 64]: expected multiples of 64"),
    ("model.image.module.generator.foreground_classes=[25]",
     "model.image.module.generator.foreground_classes=[25]: expected ids from 0 to 18"),
    ("model.image.module.generator.foreground_classes=[-1]",
     "model.image.module.generator.foreground_classes=[-1]: expected ids from 0 to 18, classes "
     "of cityscapes; -1 stands for a name that is no class"),
    ("model.image.module.n_frames_load=0", "model.image.module.n_frames_load=0: expected a"),
    ("model/image=published model.image.module.perceptual.weights=no.pth",
     "model.image.module.perceptual.weights=no.pth: expected download, or a file that exists"),
    ("flow.preset=slow", "flow.preset=slow: expected one of ultrafast, fast, medium"),
    # The Trainer.
    ("trainer.max_steps=abc", "trainer.max_steps=abc: expected a whole number >= 1, or -1"),
    ("trainer.max_steps=1e4", "trainer.max_steps=10000.0: expected a whole number >= 1, or -1 ("
     "optimiser steps, -1 = no limit); write it without point and exponent, trainer.max_steps="
     "10000"),
    ("stage=structure trainer.max_steps=-1 trainer.max_epochs=-1",
     "trainer.max_steps and trainer.max_epochs are both without a limit"),
    ("trainer.devices=two", "trainer.devices=two: expected a number of devices, a list of"),
    ("stage=structure trainer.devices=2 model.structure.batch_size=3",
     "model.structure.batch_size=3: counts clips over all ranks together"),
    ("trainer.accelerator=gpuu", "trainer.accelerator=gpuu: expected one of auto, cpu, gpu"),
    ("trainer.precision=fp16", "trainer.precision=fp16: expected one of 32-true, 16-true"),
    ("trainer.strategy=dpp", "trainer.strategy=dpp: expected auto, the name of one of"),
    ("trainer.max_time=3h", "trainer.max_time=3h: expected days:hours:minutes:seconds"),
    ("trainer.val_check_interval=0.5", "trainer.val_check_interval=0.5: a share of an epoch"),
    ("trainer.enable_progress_bar=false", "trainer.enable_progress_bar=false: callbacks.progr"),
    ("trainer.enable_checkpointing=false", "trainer.enable_checkpointing=false: expected true"),
    ("trainer.gradient_clip_val=abc", "trainer.gradient_clip_val=abc: expected a number >= 0"),
    ("trainer.gradient_clip_val=1.0", "trainer.gradient_clip_val=1.0: model.image steps its"),
    ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches=2: model.image st"),
    ("stage=image trainer=fsdp", "trainer=fsdp: model.image steps its optimizers itself"),
    ("+trainer.max_step=3", "trainer.max_step: Lightning's Trainer has no such key; did you m"),
    ("+trainer.logger=x", "trainer.logger: is not set here: loggers are chosen by logger=csv"),
    # Callbacks, evaluation, W&B, sweeps.
    ("callbacks.checkpoint.every_n_batches=0", "callbacks.checkpoint.every_n_batches=0: expec"),
    ("callbacks.checkpoint.mode=lowest", "callbacks.checkpoint.mode=lowest: expected one of"),
    ("callbacks.samples.clips=-1", "callbacks.samples.clips=-1: expected a whole number >= 0"),
    ("+callbacks.early=5", "callbacks.early=5: expected a group with a _target_, or null"),
    ("+callbacks.early._target_=pytorch_lightning.callbacks.EarlyStopping",
     "callbacks.early.monitor has no value"),
    ("callbacks.progress._target_=no.Such", "callbacks.progress._target_=no.Such: cannot be"),
    ("evaluate.device=gpu", "evaluate.device=gpu: expected auto, cpu, cuda or cuda:N"),
    ("evaluate.predictions=theirs", "evaluate.predictions=theirs: expected folder:PATH, or"),
    ("evaluate.predictions=folder:no", "evaluate.predictions=folder:no: no such folder"),
    ("wandb.project=me/x", "wandb.project=me/x: expected a name without /"),
    ("wandb.mode=off", "wandb.mode=off: expected one of online, offline, disabled"),
    ("wandb.patience=0", "wandb.patience=0: expected a number > 0 (seconds)"),
    ("artifacts=wandb wandb.mode=offline", "artifacts=wandb with wandb.mode=offline: only a"),
    ("sweep.direction=up", "sweep.direction=up: expected one of minimize, maximize"),
    ("stage=prepare sweep.pruner={_target_:optuna.pruners.NopPruner}", "sweep.pruner is set, but"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "sentence"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_named(command: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(composed(f"work_dir={tmp_path}", *command.replace("RAW", "/tmp").split()))
    said = str(caught.value)
    assert said.startswith(sentence)
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "trainer.devices=auto",
        "stage=structure trainer.devices=[0]",
        "trainer.fast_dev_run=3",
        "trainer.max_time=00:12:00:00",
        "stage=structure trainer.max_steps=-1 trainer.max_epochs=-1 trainer.max_time=00:12:00:00",
        "trainer.val_check_interval=0.5 trainer.check_val_every_n_epoch=1",
        "trainer.precision=16",
        "trainer.profiler=simple",
        "trainer.enable_progress_bar=false callbacks.progress=null",
        "stage=structure trainer.gradient_clip_val=1 trainer.accumulate_grad_batches=2",
        "stage=structure trainer=fsdp",
        "callbacks.samples=null",
        "+callbacks.mine._target_=pytorch_lightning.callbacks.Timer +callbacks.mine.verbose=false",
        "dataset.max_eval_clips=null",
        "model.beta=0",
        "stage=image dataset.size=[32,32]",
        "stage=evaluate predictions=me/hvp/structure-kitti:latest videos=null",
        "logger=[csv,wandb] wandb.mode=disabled",
        "stage=dashboard dataset=kitti",
    ],
)
def test_what_is_right_passes(command: str) -> None:
    check_config(composed(*command.split()))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[", "expected readable JSON"),
        ({"names": []}, "not a class file"),
        ({"classes": []}, "expected 1 to 255"),
        ({"classes": [{"name": "road", "color": [1, 2]}]}, "not a class file"),
        ({"classes": [{"name": "road", "color": [1, 2, 300]}]}, "each from 0 to 255"),
        ({"classes": [{"name": "road", "color": [1, 2, 3]}], "flip_pairs": [[0, 1]]}, "the id 1"),
    ],
)
def test_a_broken_class_file_is_named(content: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    config = composed("dataset=folder", f"data_root={tmp_path}", f"dataset.classes={path}")
    with pytest.raises(ConfigError) as caught:
        check_config(config)
    assert str(caught.value).startswith(f"dataset.classes={path}: ")
    assert reason in str(caught.value)


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu: torch finds no GPU"):
        check_config(composed("stage=structure", "trainer=gpu"))


def test_the_trainer_has_every_key_of_lightnings_but_those_set_elsewhere() -> None:
    ours = {str(key) for key in OmegaConf.load(ROOT / "conf" / "trainer" / "auto.yaml")}
    lightnings = set(inspect.signature(Trainer).parameters)
    assert ours - {"_target_"} == lightnings - set(OWN)
    assert lightnings - set(OWN) == set(TRAINER_RULES)


def test_every_key_has_a_rule_or_a_type() -> None:
    """A key is checked by a table, or by the signature of what is built from it."""
    bare = set()
    for dataset in DATASETS:
        config = composed("stage=structure", f"dataset={dataset}", "data_root=/data", "logger=all")
        bare |= {key for key in _leaves(config) if not _has_rule(key)}
    assert bare == set()


def test_every_rule_has_a_key() -> None:
    configs = [composed("stage=structure", f"dataset={d}", "data_root=/data") for d in DATASETS]
    unused = {
        key
        for key in RULES
        if all(OmegaConf.select(config, key, default="?") == "?" for config in configs)
    }
    assert unused == set()


def _leaves(node: Any, key: str = "") -> Iterator[str]:
    """Keys of values that no constructor takes."""
    if not isinstance(node, DictConfig) or (key.startswith("model.") and key.endswith(".search")):
        yield key
    elif "_target_" not in node or key == "stage":
        for name in node:
            yield from _leaves(node._get_node(name), f"{key}.{name}" if key else str(name))


def _has_rule(key: str) -> bool:
    parts = key.split(".")
    of_model = parts[0] == "model" and len(parts) == 3 and parts[2] in MODEL_RULES
    return key in RULES or of_model or key.startswith(("stage.", "evaluate.measures."))
