"""Checks of vid2vid's settings, made before anything is built."""

from collections.abc import Mapping
from typing import Any

from hvp.errors import ConfigError
from hvp.model import ClipFacts
from hvp.values import (
    FLAG,
    GROUP,
    WEIGHTS,
    Rule,
    check_rules,
    choice,
    listed,
    number,
    or_null,
    shown,
    whole,
)

_BETAS = Rule(listed(number(0, below=1), 2), "moment decays of Adam")
_NORM = Rule(choice("batch", "instance"), "normalisation")
_RULES = {
    "generator.n_classes": Rule(whole(1), "classes"),
    "generator.n_frames_G": Rule(whole(2), "label maps that the generator sees"),
    "generator.ngf": Rule(whole(1), "channels"),
    "generator.n_down": Rule(whole(1), "halvings of the resolution"),
    "generator.n_blocks": Rule(whole(1), "residual blocks"),
    "generator.n_blocks_local": Rule(whole(1), "residual blocks"),
    "generator.n_scales_spatial": Rule(whole(1), "scales"),
    "generator.foreground_classes": Rule(listed(whole()), "ids of classes, [] = none"),
    "generator.no_flow": Rule(FLAG),
    "generator.synthesise_first": Rule(FLAG),
    "generator.norm": _NORM,
    "generator.flow_multiplier": Rule(number(above=0), "pixels"),
    "flow_teacher": Rule(GROUP, "the choices are flow=dis, raft_small, raft_large, ground_truth"),
    "image_discriminator.n_classes": Rule(whole(1), "classes"),
    "image_discriminator.ndf": Rule(whole(1), "channels"),
    "image_discriminator.n_layers": Rule(whole(1), "layers"),
    "image_discriminator.num_D": Rule(whole(1), "scales"),
    "image_discriminator.norm": _NORM,
    "temporal_discriminators": Rule(or_null(GROUP)),
    "temporal_discriminators.n_scales_temporal": Rule(whole(1), "scales"),
    "temporal_discriminators.n_frames_D": Rule(whole(2), "frames that are compared"),
    "temporal_discriminators.ndf": Rule(whole(1), "channels"),
    "temporal_discriminators.n_layers": Rule(whole(1), "layers"),
    "temporal_discriminators.num_D": Rule(whole(1), "scales"),
    "temporal_discriminators.norm": _NORM,
    "temporal_discriminators.flow_scale": Rule(number(above=0), "pixels"),
    "perceptual": Rule(or_null(GROUP), "null = without VGG19"),
    "perceptual.weights": Rule(WEIGHTS, "of VGG19"),
    "perceptual.layer_weights": Rule(listed(number(0), 5), "of relu1_1 to relu5_1"),
    "lambda_feat": Rule(number(0), "weight of a loss"),
    "lambda_F": Rule(number(0), "weight of a loss"),
    "lambda_T": Rule(number(0), "weight of a loss"),
    "lr": Rule(number(above=0), "learning rate"),
    "betas": _BETAS,
    "ttur": Rule(FLAG),
    "ttur_betas": _BETAS,
    "n_epochs": Rule(whole(0), "epochs at the full learning rate"),
    "n_epochs_decay": Rule(whole(1), "epochs of decay to zero"),
    "n_epochs_step": Rule(whole(1), "epochs between two doublings of the clips"),
    "n_frames_total": Rule(whole(1), "frames to generate per clip at first"),
    "n_frames_max": Rule(whole(2), "frames of the longest clip"),
    "n_frames_load": Rule(whole(1), "frames per optimiser step"),
    "n_frames_bp": Rule(whole(1), "frames between two detachments"),
}
_FLOW_RULES = {
    "preset": Rule(choice("ultrafast", "fast", "medium")),
    "size": Rule(choice("small", "large")),
    "weights": Rule(WEIGHTS, "of RAFT"),
    "n_updates": Rule(whole(1), "iterations"),
    "confidence_threshold": Rule(number(above=0), "squared difference"),
}


def check_settings(settings: Mapping[str, Any], clips: ClipFacts, key: str) -> None:
    """See `hvp.model.Model.check_settings`."""
    check_rules(settings, _RULES, key)
    generator = settings.get("generator") or {}
    for part in ("generator", "image_discriminator"):
        n_classes = (settings.get(part) or {}).get("n_classes", clips.space.n_classes)
        if n_classes != clips.space.n_classes:
            raise ConfigError(
                f"{key}.{part}.n_classes={n_classes}: expected {clips.space.n_classes}, that of "
                "dataset.n_classes; leave it out, and set dataset.classes where others are wanted"
            )
    _check_foreground(generator.get("foreground_classes") or [], clips, key)
    _check_context(generator.get("n_frames_G", 2), clips, key)
    _check_size(generator, clips, key)
    teacher = str(settings["flow_teacher"].get("_target_"))
    if teacher.startswith("hvp.flow."):
        check_rules(settings["flow_teacher"], _FLOW_RULES, "flow")
    if teacher.endswith(".GroundTruthFlow") and not clips.exact_flow:
        raise ConfigError(
            f"flow=ground_truth: {key}.flow_teacher needs the exact flow of neighbouring frames, "
            "which dataset=synthetic and dataset=avenue have with dataset.rules.step=1; use an "
            "estimating teacher, flow=dis"
        )


def _check_foreground(ids: list[int], clips: ClipFacts, key: str) -> None:
    wrong = [i for i in ids if not 0 <= i < clips.space.n_classes]
    if wrong:
        unknown = "; -1 stands for a name that is no class" if -1 in wrong else ""
        raise ConfigError(
            f"{key}.generator.foreground_classes={shown(ids)}: expected ids from 0 to "
            f"{clips.space.n_classes - 1}, classes of {clips.space.name}{unknown}; give those, or "
            "[] for no branch of their own"
        )


def _check_context(n_frames: int, clips: ClipFacts, key: str) -> None:
    if clips.n_past < n_frames - 1:
        raise ConfigError(
            f"dataset.rules.n_past={clips.n_past}: expected at least {n_frames - 1}, as "
            f"{key}.generator.n_frames_G={n_frames} sees {n_frames - 1} frames before the one it "
            "makes; raise n_past, or lower n_frames_G"
        )


def _check_size(generator: Mapping[str, Any], clips: ClipFacts, key: str) -> None:
    """Each halving must leave a whole number of pixels, the last one more than one."""
    n_scales, n_down = generator.get("n_scales_spatial", 1), generator.get("n_down", 1)
    multiple = 2 ** (n_scales - 1 + n_down)
    if any(side % multiple or side < 2 * multiple for side in clips.size):
        raise ConfigError(
            f"dataset.size={shown(clips.size)}: expected multiples of {multiple}, at least "
            f"{2 * multiple}, as {key}.generator halves it {n_scales - 1 + n_down} times "
            f"(n_down={n_down}, n_scales_spatial={n_scales}); choose such a size, or fewer halvings"
        )
    ngf = generator.get("ngf", 2**n_scales)
    if ngf < 2 ** (n_scales - 1):
        raise ConfigError(
            f"{key}.generator.ngf={ngf}: expected at least {2 ** (n_scales - 1)}, as each of the "
            f"{n_scales} scales (n_scales_spatial) has half the channels of the one before; raise "
            "ngf, or lower n_scales_spatial"
        )
