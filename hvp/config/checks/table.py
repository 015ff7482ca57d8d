"""What each key of the configuration may be; models, data modules and the Trainer have tables of
their own.
"""

from typing import Any

from hvp.artifacts.store import check_name, parse_reference, split_home
from hvp.errors import ArtifactError
from hvp.values import (
    FLAG,
    GROUP,
    NAMES,
    SIZE,
    TEXT,
    Kind,
    Rule,
    choice,
    either,
    matching,
    number,
    or_null,
    whole,
)


def _is_name(value: Any) -> bool:
    try:
        check_name(value)
    except (ArtifactError, TypeError):
        return False
    return True


def _is_reference(value: Any) -> bool:
    try:
        parse_reference(split_home(value)[1])
    except (ArtifactError, TypeError, AttributeError):
        return False
    return True


NAME = Kind("letters, digits, '.', '_' and '-', the first neither '.' nor '-'", _is_name)
REFERENCE = Kind(
    "an artifact, as in structure-kitti:v3 or structure-kitti:latest",
    _is_reference,
    advice="the folder artifacts/ of work_dir has the names, and {key}=NAME:latest is the newest",
)
_CHECKPOINT = Kind(
    "a .ckpt file, or an artifact, as in structure-kitti-checkpoint:latest",
    lambda value: str(value).endswith(".ckpt") or _is_reference(value),
)
_ALIASES = Kind(
    "a list of names", NAMES.accepts, advice="write them in brackets, {key}=[best], [] for none"
)
# W&B's own rule for names of projects.
_PROJECT = matching(r"[^/\\#?%:]{1,128}", "a name without / \\ # ? % :")

STEPS = Rule(either(whole(1), choice(-1)), "optimiser steps, -1 = no limit")
EPOCHS = Rule(either(whole(1), choice(-1)), "epochs, -1 = no limit")
BATCHES = either(whole(0), number(0, 1))

RULES: dict[str, Rule] = {
    "dataset.name": Rule(NAME, "part of the names of artifacts"),
    "seed": Rule(whole(0, 2**32 - 1)),
    "data_root": Rule(or_null(TEXT), "folder of the raw data"),
    "work_dir": Rule(TEXT, "folder for everything that is written"),
    "data_dir": Rule(TEXT, "folder of prepared clips"),
    "output_dir": Rule(TEXT, "folder of this run"),
    "fit": Rule(FLAG, "train"),
    "predict": Rule(FLAG, "predict"),
    "force": Rule(FLAG, "redo what exists"),
    "checkpoint": Rule(or_null(_CHECKPOINT), "weights to start from or to predict with"),
    "predictions": Rule(REFERENCE, "label predictions"),
    "videos": Rule(or_null(REFERENCE), "translated videos"),
    "aliases": Rule(_ALIASES),
    "video_fps": Rule(number(above=0), "frames per second"),
    # What is evaluated.
    "evaluate.predictions": Rule(
        or_null(matching(r"folder:.+", "folder:PATH")), "predictions of others"
    ),
    "evaluate.compare": Rule(
        or_null(NAMES), "evaluations, as in [evaluation-kitti:v0], or results.json files"
    ),
    "evaluate.svg_rgb": Rule(or_null(REFERENCE), "videos of the baseline"),
    "evaluate.reconstruction": Rule(FLAG),
    "evaluate.i3d": Rule(or_null(TEXT), "weights: download, torchscript:FILE or a file"),
    "evaluate.lpips": Rule(or_null(TEXT), "weights: download, or a file"),
    "evaluate.lpips_backbone": Rule(choice("alex", "vgg")),
    "evaluate.inception": Rule(or_null(TEXT), "weights: download, or a file"),
    "evaluate.points": Rule(whole(1), "points of a curve"),
    "evaluate.device": Rule(matching(r"auto|cpu|cuda(:\d+)?|mps", "auto, cpu, cuda or cuda:N")),
    "evaluate.clips_shown": Rule(whole(0), "clips shown as videos"),
    "evaluate.frames_shown": Rule(whole(1), "frames of a video"),
    # The dataset, whatever it is.
    "dataset.version": Rule(whole(1)),
    "dataset.classes": Rule(TEXT, "cityscapes, densepose or a class file"),
    "dataset.n_classes": Rule(or_null(whole(1)), "it follows from dataset.classes"),
    "dataset.size": Rule(SIZE),
    "dataset.rules.n_past": Rule(whole(1), "context frames"),
    "dataset.rules.n_future": Rule(whole(1), "frames predicted in training"),
    "dataset.rules.n_eval": Rule(whole(1), "frames predicted in evaluation"),
    "dataset.rules.step": Rule(whole(1), "recorded frames"),
    "dataset.rules.eval_offset": Rule(whole(0), "recorded frames"),
    "dataset.rules.eval_stride": Rule(whole(1), "recorded frames"),
    "dataset.rules.min_eval_clips": Rule(whole(1), "clips"),
    "dataset.rules.val_stride": Rule(whole(1), "recorded frames"),
    "dataset.datamodule": Rule(GROUP),
    "stage.name": Rule(NAME),
    "stage.clips": Rule(choice("structure", "image")),
    "dataset.rollout.samples": Rule(whole(1), "futures per test clip"),
    "dataset.max_eval_clips": Rule(or_null(whole(1)), "test clips, null = all"),
    "dataset.flip.structure": Rule(FLAG, "mirror training clips"),
    "dataset.flip.image": Rule(FLAG, "mirror training clips"),
    "dataset.image.source_size": Rule(or_null(SIZE)),
    "dataset.image.load_size": Rule(or_null(SIZE)),
    "dataset.image.part_dropout": Rule(number(0, 1), "probability"),
    "dataset.num_workers": Rule(whole(0), "processes that load clips"),
    "dataset.extract_labels": Rule(or_null(GROUP), "null = never"),
    "dataset.extract_labels.model": Rule(TEXT, "a name on the Hugging Face hub, or a folder"),
    "dataset.extract_labels.revision": Rule(or_null(TEXT), "commit on the hub"),
    "dataset.extract_labels.sha256": Rule(or_null(TEXT), "SHA-256 of the weights file"),
    "dataset.extract_labels.batch_size": Rule(whole(1), "pictures"),
    "dataset.extract_labels.folder": Rule(TEXT),
    # What every model has around its module.
    "model.beta": Rule(number(0), "weight of the KL term"),
    # Loggers, the store, callbacks, sweeps.
    "logger": Rule(GROUP),
    "artifacts": Rule(GROUP),
    "flow": Rule(GROUP),
    "callbacks": Rule(GROUP),
    "callbacks.checkpoint": Rule(or_null(GROUP)),
    "callbacks.checkpoint.every_n_batches": Rule(whole(1), "training batches"),
    "callbacks.checkpoint.keep": Rule(whole(1), "checkpoints"),
    "callbacks.checkpoint.monitor": Rule(or_null(TEXT), "a metric of the validations"),
    "callbacks.checkpoint.mode": Rule(or_null(choice("min", "max")), "the good end of monitor"),
    "callbacks.samples": Rule(or_null(GROUP)),
    "callbacks.samples.clips": Rule(whole(0), "validation clips, 0 = off"),
    "callbacks.samples.samples": Rule(whole(1), "futures per clip"),
    "callbacks.samples.fps": Rule(number(above=0), "frames per second"),
    "callbacks.samples.seed": Rule(whole(0)),
    "sweep.metric": Rule(or_null(TEXT), "a metric of the validations"),
    "sweep.direction": Rule(choice("minimize", "maximize"), "the good end of sweep.metric"),
    "sweep.pruner": Rule(or_null(GROUP), "one of optuna.pruners"),
    "wandb.mode": Rule(choice("online", "offline", "disabled")),
    "wandb.base_url": Rule(matching(r"https?://\S+", "an address, https://..."), "the server"),
    "wandb.entity": Rule(
        or_null(matching(r"[^/\s]+", "a name without / and blanks")), "user or team"
    ),
    "wandb.project": Rule(_PROJECT, "wandb.entity names the user or team"),
    "wandb.group": Rule(or_null(TEXT)),
    "wandb.name": Rule(or_null(TEXT)),
    "wandb.job_type": Rule(or_null(TEXT)),
    "wandb.dir": Rule(TEXT),
    "wandb.init_timeout": Rule(number(above=0), "seconds"),
    "wandb.finish_timeout": Rule(number(above=0), "seconds"),
    "wandb.patience": Rule(number(above=0), "seconds"),
}

MODEL_RULES: dict[str, Rule] = {
    "dataset.name": Rule(NAME, "part of the names of artifacts"),
    "name": Rule(TEXT),
    "version": Rule(whole(1)),
    "module": Rule(GROUP),
    "search": Rule(or_null(GROUP), "what sweeps vary"),
    "batch_size": Rule(whole(1), "clips per optimiser step"),
    "eval_batch_size": Rule(whole(1), "clips per validation or prediction batch"),
    "ema_decay": Rule(number(0, below=1), "share of the old average, 0 = the last weights"),
    "max_steps": STEPS,
    "max_epochs": EPOCHS,
    "limit_train_batches": Rule(BATCHES, "batches of an epoch, or a share of them"),
    "val_check_interval": Rule(whole(1), "training batches between two validations"),
}
"""Of `model.<key>`."""
