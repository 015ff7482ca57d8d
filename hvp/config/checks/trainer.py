"""Checks of the Trainer's settings, and of what a model makes of them."""

import inspect
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.strategies import StrategyRegistry

from hvp.config.checks.table import BATCHES, EPOCHS, STEPS
from hvp.errors import ConfigError
from hvp.model import Model
from hvp.values import (
    FLAG,
    GROUP,
    TEXT,
    Kind,
    Rule,
    check_rules,
    choice,
    did_you_mean,
    either,
    listed,
    matching,
    number,
    or_null,
    shown,
    whole,
)

OWN = {
    "logger": "loggers are chosen by logger=csv or logger=[csv,wandb]",
    "callbacks": "callbacks stand in the group callbacks, as in +callbacks.NAME._target_=...",
    "plugins": "the framework brings its own",
    "default_root_dir": "the folder of a run is output_dir, below work_dir",
    "use_distributed_sampler": "clips are sharded by the data module",
}
"""Arguments of the Trainer that are set elsewhere, and where."""

_STRATEGIES = ("auto", *StrategyRegistry.available_strategies())
_FLAG_OR_NULL = Rule(or_null(FLAG))
_LIMIT = Rule(or_null(BATCHES), "batches, or a share of them")
RULES = {
    "accelerator": Rule(choice("auto", "cpu", "gpu", "cuda", "mps", "tpu")),
    "devices": Rule(
        Kind(
            "a number of devices, a list of their ids, or auto",
            either(
                whole(1), choice("auto", -1, "-1"), listed(whole(0)), matching(r"[1-9]\d*", "")
            ).accepts,
            ("auto",),
        )
    ),
    "num_nodes": Rule(whole(1), "machines"),
    "strategy": Rule(
        Kind(
            "auto, the name of one of Lightning's strategies, or a group with a _target_",
            either(choice(*_STRATEGIES), GROUP).accepts,
            _STRATEGIES,
            "trainer=ddp and trainer=fsdp choose those of this framework",
        )
    ),
    "precision": Rule(
        or_null(
            choice(
                "32-true", "16-true", "bf16-true", "64-true", "16-mixed", "bf16-mixed",
                "transformer-engine", "transformer-engine-float16", "64", "32", "16", "bf16",
                64, 32, 16,
            )
        )
    ),
    "max_steps": STEPS,
    "max_epochs": Rule(or_null(EPOCHS.kind), EPOCHS.meaning),
    "min_steps": Rule(or_null(whole(0)), "optimiser steps"),
    "min_epochs": Rule(or_null(whole(0)), "epochs"),
    "max_time": Rule(
        or_null(
            either(matching(r"\d+:\d+:\d+:\d+", "days:hours:minutes:seconds as text"), GROUP)
        )
    ),
    "limit_train_batches": _LIMIT,
    "limit_val_batches": _LIMIT,
    "limit_test_batches": _LIMIT,
    "limit_predict_batches": _LIMIT,
    "overfit_batches": Rule(BATCHES, "batches, or a share of them"),
    "fast_dev_run": Rule(either(FLAG, whole(0))),
    "accumulate_grad_batches": Rule(whole(1), "batches per optimiser step"),
    "gradient_clip_val": Rule(or_null(number(0)), "null = no clipping"),
    "gradient_clip_algorithm": Rule(or_null(choice("norm", "value"))),
    "reload_dataloaders_every_n_epochs": Rule(whole(0), "epochs"),
    "val_check_interval": Rule(whole(1), "training batches between two validations"),
    "check_val_every_n_epoch": Rule(or_null(whole(1)), "epochs"),
    "num_sanity_val_steps": Rule(or_null(either(whole(0), choice(-1))), "batches"),
    "log_every_n_steps": Rule(or_null(whole(1)), "steps"),
    "enable_progress_bar": _FLAG_OR_NULL,
    "enable_model_summary": _FLAG_OR_NULL,
    # Lightning accepts no checkpoints of ours otherwise, and stages publish them.
    "enable_checkpointing": Rule(
        or_null(choice(True)), "callbacks.checkpoint.every_n_batches says how often"
    ),
    "deterministic": Rule(or_null(either(FLAG, choice("warn")))),
    "benchmark": _FLAG_OR_NULL,
    "sync_batchnorm": Rule(FLAG),
    "inference_mode": Rule(FLAG),
    "profiler": Rule(or_null(either(choice("simple", "advanced", "pytorch", "xla"), GROUP))),
    "detect_anomaly": Rule(FLAG),
    "barebones": Rule(choice(False), "it forbids the checkpoints that stages publish"),
    "enable_autolog_hparams": Rule(FLAG),
    "model_registry": Rule(or_null(TEXT)),
}  # fmt: skip


def check_trainer(settings: Mapping[str, Any], callbacks: Mapping[str, Any]) -> None:
    """Check the settings of a Trainer that trains.

    Args:
        settings: `trainer`, resolved for the model that is trained.
        callbacks: the group `callbacks`.

    Raises:
        ConfigError: a key that no Trainer has, or a value that it does not take.
    """
    known = set(inspect.signature(Trainer).parameters)
    for name in settings:
        check_trainer_key(str(name), known)
    val_check_interval = settings.get("val_check_interval")
    rules = dict(RULES)
    if settings.get("check_val_every_n_epoch") is not None:  # else Lightning takes no share
        rules["val_check_interval"] = Rule(
            or_null(either(whole(1), number(above=0, high=1))),
            "training batches between two validations, or a share of an epoch's",
        )
    elif isinstance(val_check_interval, float) and 0 < val_check_interval <= 1:
        raise ConfigError(
            f"trainer.val_check_interval={val_check_interval}: a share of an epoch needs "
            "trainer.check_val_every_n_epoch=1; add it, or give a number of training batches"
        )
    check_rules(settings, rules, "trainer")
    _check_progress_bar(settings, callbacks)
    _check_end(settings)


def check_trainer_key(name: str, known: set[str]) -> None:
    """Refuse a key that Lightning's Trainer does not have, or that is set elsewhere."""
    if name.startswith("_"):
        return
    if name in OWN:
        raise ConfigError(f"trainer.{name}: is not set here: {OWN[name]}; leave it out")
    if name not in known:
        meant = did_you_mean(name, known - set(OWN)) or "conf/trainer/auto.yaml lists them"
        raise ConfigError(f"trainer.{name}: Lightning's Trainer has no such key; {meant}")


def check_for_model(settings: Mapping[str, Any], model: type[Model], key: str) -> None:
    """Refuse what the model that stands at `key` cannot be trained with."""
    if not model.manual_optimization:
        return
    if "ShardedStrategy" in str(settings.get("strategy")):
        raise ConfigError(
            f"trainer=fsdp: {key} steps its optimizers itself, which are not sharded; use "
            "trainer=ddp for it"
        )
    if settings.get("gradient_clip_val"):
        raise ConfigError(
            f"trainer.gradient_clip_val={settings['gradient_clip_val']}: {key} steps its "
            "optimizers itself, and its gradients cannot be clipped by the Trainer; leave it out"
        )
    if settings.get("accumulate_grad_batches", 1) != 1:
        raise ConfigError(
            f"trainer.accumulate_grad_batches={settings['accumulate_grad_batches']}: {key} steps "
            f"its optimizers itself, once per batch; leave it out, or raise its batch_size"
        )


def check_ranks(settings: Mapping[str, Any], batch_size: int, key: str) -> None:
    """The clips of a step must be divisible by the ranks, where their number is known."""
    devices = settings.get("devices")
    if isinstance(devices, list):
        devices = len(devices)
    if not str(devices).isdecimal():
        return
    n_ranks = int(str(devices)) * settings.get("num_nodes", 1)
    if batch_size % n_ranks:
        raise ConfigError(
            f"{key}.batch_size={batch_size}: counts clips over all ranks together and is not "
            f"divisible by {n_ranks} of them; choose a multiple, or other trainer.devices"
        )


def _check_progress_bar(settings: Mapping[str, Any], callbacks: Mapping[str, Any]) -> None:
    bars = [
        name
        for name, node in callbacks.items()
        if isinstance(node, Mapping) and "ProgressBar" in str(node.get("_target_"))
    ]
    if settings.get("enable_progress_bar") is False and bars:
        raise ConfigError(
            f"trainer.enable_progress_bar=false: callbacks.{bars[0]} is the progress bar; to have "
            f"none, give callbacks.{bars[0]}=null instead"
        )


def _check_end(settings: Mapping[str, Any]) -> None:
    limits = (settings.get("max_steps"), settings.get("max_epochs"))
    others = (settings.get("max_time"), settings.get("fast_dev_run"))
    if limits == (-1, -1) and not any(others):
        raise ConfigError(
            "trainer.max_steps and trainer.max_epochs are both without a limit (-1): training "
            f"would never end; set one of them, {shown('trainer.max_steps=10000')} for example"
        )
