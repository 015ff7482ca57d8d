"""Checks of SVG-LP's settings, made before anything is built."""

from collections.abc import Mapping
from typing import Any

from hvp.errors import ConfigError
from hvp.model import ClipFacts
from hvp.structure.svg_lp.layers import ARCHITECTURES
from hvp.values import (
    FLAG,
    GROUP,
    SIZE,
    Rule,
    check_rules,
    choice,
    listed,
    number,
    or_null,
    shown,
    whole,
)

_SKIPS = choice("frozen", "latest")
_RULES = {
    "network.n_classes": Rule(whole(1), "classes"),
    "network.size": Rule(SIZE),
    "network.n_past": Rule(whole(1), "context frames"),
    "network.base_width": Rule(whole(1), "channels"),
    "network.latent_width": Rule(whole(1), "channels"),
    "network.noise_width": Rule(whole(1), "channels"),
    "network.rnn_width": Rule(whole(1), "channels"),
    "network.batch_norm": Rule(FLAG),
    "network.init_std": Rule(or_null(number(above=0)), "null scales it by the fan-in"),
    "lr": Rule(number(above=0), "learning rate"),
    "betas": Rule(listed(number(0, below=1), 2), "moment decays of Adam"),
    "beta": Rule(number(0), "weight of the KL term"),
    "train_skip": Rule(_SKIPS, "skip connections in training"),
    "rollout_skip": Rule(_SKIPS, "skip connections in roll-outs"),
    "free_running": Rule(number(0, 1), "probability of a batch on the model's own frames"),
    "free_running_after": Rule(number(0, 1), "share of the training's steps"),
    "scheduler": Rule(or_null(GROUP), "a _partial_ of a class of torch.optim.lr_scheduler"),
    "window": Rule(or_null(whole(1)), "frames behind the context, null = all"),
    "class_balance": Rule(number(0, 1), "0 = all pixels weigh the same"),
    "seed": Rule(whole(0)),
}


def check_settings(settings: Mapping[str, Any], clips: ClipFacts, key: str) -> None:
    """See `hvp.model.Model.check_settings`."""
    check_rules(settings, _RULES, key)
    if clips.size not in ARCHITECTURES:
        known = ", ".join(shown(size) for size in ARCHITECTURES)
        raise ConfigError(
            f"dataset.size={shown(clips.size)}: expected one of {known}, the sizes that SVG-LP has "
            f"networks for; choose one of them, or another model ({key} is SVG-LP)"
        )
    network = settings.get("network") or {}
    for name, source, value in (
        ("size", "dataset.size", list(clips.size)),
        ("n_past", "dataset.rules.n_past", clips.n_past),
        ("n_classes", "dataset.n_classes", clips.space.n_classes),
    ):
        if name in network and network[name] != value:
            raise ConfigError(
                f"{key}.network.{name}={shown(network[name])}: expected {shown(value)}, that of "
                f"{source}; leave it out, and set {source} where another is wanted"
            )
