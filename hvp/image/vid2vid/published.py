"""Checkpoint importer: published vid2vid weights to a checkpoint of this framework.

    python -m hvp.image.vid2vid.published SOURCE DESTINATION.ckpt

SOURCE is either one file of state dicts {`G0`[, `G1` ...]: a generator per spatial scale, `D`: the
image discriminator, `D_T0` ...: the temporal ones} (by themselves or under the key `checkpoint`),
or the checkpoint directory of vid2vid, with files `<label>_net_<network>.pth` such as
`latest_net_G0.pth`. A generator is enough; other entries are ignored. Classes, frames per window,
widths, depths, branches and norms are inferred from the tensors' shapes and names; instance edge
maps, if the generator was trained with them, count as one more class.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvp.errors import ArtifactError, HVPError
from hvp.image.vid2vid.discriminators import ImageDiscriminator, TemporalDiscriminators
from hvp.image.vid2vid.sequence import SequenceGenerator
from hvp.log import say
from hvp.published import State, check_state, is_state, load_published, save_checkpoint
from hvp.signals import orderly_exit

_GENERATOR_PARTS = {
    "model_down_seg": "label_branch",
    "model_down_img": "image_branch",
    "model_res_img": "image_trunk.residual",
    "model_up_img": "image_trunk.up",
    "model_final_img": "image_out",
    "model_res_flow": "flow_trunk.residual",
    "model_up_flow": "flow_trunk.up",
    "model_final_flow": "flow_out",
    "model_final_w": "weight_out",
    "indv_down": "foreground_branch",
    "indv_res": "foreground_trunk.residual",
    "indv_up": "foreground_trunk.up",
    "indv_final": "foreground_out",
}


def generator_name(name: str, scale: int, n_blocks_local: int) -> str:
    """Key in `SequenceGenerator.state_dict()` of a published generator key.

    Finer scales have residual blocks and upsampling in one published list; `n_blocks_local` is the
    number of blocks.

    Raises:
        ArtifactError: the name is not one of a published generator.
    """
    match = re.fullmatch(r"(?:module\.)?(\w+)\.(\d+)\.(?:(conv_block)\.)?(.+)", name)
    if match is None or match[1] not in _GENERATOR_PARTS:
        raise ArtifactError(f"published image generator: unknown parameter {name!r}")
    part, index, block, rest = _GENERATOR_PARTS[match[1]], int(match[2]), match[3], match[4]
    if scale > 0 and part.endswith(".up"):
        if index < n_blocks_local:
            part = part.replace(".up", ".residual")
        else:
            index -= n_blocks_local
    inner = "block." if block else ""
    return f"scales.{scale}.{part}.{index}.{inner}{rest}"


def discriminator_name(name: str, num_D: int) -> str:
    """Key in `MultiscaleDiscriminator.state_dict()` of a published discriminator key.

    The published scales count from the coarsest, ours from the finest.

    Raises:
        ArtifactError: the name is not one of a published discriminator.
    """
    match = re.fullmatch(r"(?:module\.)?scale(\d+)_layer(\d+)\.(.+)", name)
    if match is None:
        raise ArtifactError(f"published discriminator: unknown parameter {name!r}")
    return f"scales.{num_D - 1 - int(match[1])}.layers.{match[2]}.{match[3]}"


def generator_state(checkpoint: Mapping[str, State], n_blocks_local: int) -> dict[str, Tensor]:
    """State dict for `SequenceGenerator` from the `G*` entries of a published checkpoint."""
    return {
        generator_name(name, int(key[1:]), n_blocks_local): tensor
        for key, state in checkpoint.items()
        if re.fullmatch(r"G\d+", key)
        for name, tensor in state.items()
    }


def image_discriminator_state(checkpoint: Mapping[str, State], num_D: int) -> dict[str, Tensor]:
    """State dict for `ImageDiscriminator` from the `D` entry of a published checkpoint."""
    return {discriminator_name(name, num_D): tensor for name, tensor in checkpoint["D"].items()}


def temporal_discriminators_state(checkpoint: Mapping[str, State], num_D: int) -> dict[str, Tensor]:
    """State dict for `TemporalDiscriminators` from the `D_T*` entries of a published checkpoint."""
    return {
        f"scales.{key.removeprefix('D_T')}.{discriminator_name(name, num_D)}": tensor
        for key, state in checkpoint.items()
        if key.startswith("D_T")
        for name, tensor in state.items()
    }


@dataclass(frozen=True)
class PublishedVid2Vid:
    """Published checkpoint, converted."""

    settings: dict[str, dict[str, Any]]
    """Arguments of `SequenceGenerator` (key `generator`) and of the discriminators found
    (`image_discriminator`, `temporal_discriminators`), as far as they can be inferred."""
    state: dict[str, Tensor]
    """State dict of the LightningModule with these networks."""
    notes: tuple[str, ...]
    """Messages for the user: networks that are missing, settings that cannot be inferred."""


def import_published(source: Path, label: str | None = None) -> PublishedVid2Vid:
    """Read and convert a published checkpoint, file or directory; dtypes are kept.

    Args:
        source: the file, or the checkpoint directory of vid2vid.
        label: which checkpoint of a directory, for example `latest` or `10`; None takes `latest`,
            or the only one.

    Raises:
        ArtifactError: the source is missing, would unpickle code, or is another kind of file.
    """
    if source.is_dir():
        return convert(_read_directory(source, label), str(source))
    content = load_published(source)
    if isinstance(content, Mapping):
        content = content.get("checkpoint", content)
    if not isinstance(content, Mapping) or not is_state(content.get("G0")):
        raise ArtifactError(
            f"{source}: no state dict 'G0' in it; expected the state dicts G0, G1, ..., D, D_T0, "
            "... of a vid2vid checkpoint, or give its directory"
        )
    return convert({str(n): s for n, s in content.items() if is_state(s)}, str(source))


def convert(checkpoint: Mapping[str, State], where: str) -> PublishedVid2Vid:
    """Convert state dicts with published names; `where` names their origin in errors.

    Raises:
        ArtifactError: names or shapes are not those of vid2vid's composite generator, or the
            networks do not belong together.
    """
    networks = {
        network: {name.removeprefix("module."): tensor for name, tensor in state.items()}
        for network, state in checkpoint.items()
    }
    settings = {"generator": _generator_settings(networks, where)}
    notes: list[str] = []
    if "foreground_classes" not in settings["generator"]:
        notes.append(
            "has a foreground branch, for classes that the weights do not tell: give the "
            "foreground_classes it was trained with"
        )
    if "D" in networks:
        settings["image_discriminator"] = _image_settings(networks, settings, where)
    else:
        notes.append("no image discriminator (D) in it: training on would begin with a new one")
    if any(network.startswith("D_T") for network in networks):
        settings["temporal_discriminators"] = _temporal_settings(networks, where)
    else:
        notes.append("no temporal discriminators (D_T0, ...) in it: training on would begin anew")
    try:
        states = _our_states(networks, settings)
    except ArtifactError as error:
        raise ArtifactError(
            f"{where}: {error}; only vid2vid's composite generator and its discriminators with "
            "feature matching can be imported"
        ) from error
    state = {}
    for prefix, found in states.items():
        part = prefix.rpartition(".")[2]
        expected = _build(part, settings[part]).state_dict()
        found = _with_buffers_of(found, expected)
        check_state(
            found,
            expected,
            f"{where}: not a published vid2vid {part.replace('_', ' ')}",
            "check that all networks come from the same training run",
        )
        state.update({f"{prefix}.{name}": tensor for name, tensor in found.items()})
    return PublishedVid2Vid(settings, state, tuple(notes))


def _our_states(
    networks: Mapping[str, State], settings: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Tensor]]:
    """Converted state dicts by the prefix of their network in the LightningModule."""
    states = {
        "generator": generator_state(networks, settings["generator"].get("n_blocks_local", 0))
    }
    if "image_discriminator" in settings:
        states["objective.image_discriminator"] = image_discriminator_state(
            networks, settings["image_discriminator"]["num_D"]
        )
    if "temporal_discriminators" in settings:
        states["objective.temporal_discriminators"] = temporal_discriminators_state(
            networks, settings["temporal_discriminators"]["num_D"]
        )
    return states


def _build(part: str, settings: dict[str, Any]) -> nn.Module:
    """Build a network on the meta device; settings that cannot be inferred are arbitrary."""
    with torch.device("meta"):
        if part == "generator":
            untold = {"n_blocks_local": 0, "foreground_classes": [0]}
            return SequenceGenerator(
                **{**untold, **settings}, synthesise_first=False, flow_multiplier=1.0
            )
        if part == "image_discriminator":
            return ImageDiscriminator(**settings)
        return TemporalDiscriminators(**settings, flow_scale=1.0)


def _with_buffers_of(found: dict[str, Tensor], expected: State) -> dict[str, Tensor]:
    """Drop or add norm buffers that differ between versions of torch and have no effect.

    Instance norm in vid2vid has running statistics that are never used, as networks stay in train
    mode; batch norm of torch 0.4 has no `num_batches_tracked`.
    """
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    kept = {n: t for n, t in found.items() if n in expected or not n.endswith(buffers)}
    counters = {n for n in expected.keys() - kept.keys() if n.endswith("num_batches_tracked")}
    return {**kept, **{name: torch.zeros((), dtype=torch.int64) for name in counters}}


def _generator_settings(networks: Mapping[str, State], where: str) -> dict[str, Any]:
    coarsest = networks["G0"]
    ngf, label_width = _convolution(networks, "G0", "model_down_seg.1.weight", where)
    _, previous_width = _convolution(networks, "G0", "model_down_img.1.weight", where)
    n_frames_G = previous_width // 3 + 1
    if previous_width % 3 or previous_width == 0 or label_width % n_frames_G:
        raise ArtifactError(
            f"{where}: G0 sees {label_width} channels of labels and {previous_width} of previous "
            "frames; expected K*C and 3*(K-1) of them, for C classes and K frames"
        )
    settings: dict[str, Any] = {
        "n_classes": label_width // n_frames_G,
        "n_frames_G": n_frames_G,
        "ngf": ngf,
        "n_down": _count(coarsest, r"model_down_seg\.(\d+)\.weight", dims=4) - 1,
        "n_blocks": _count(coarsest, r"(model_(?:down_seg|res_img)\.\d+)\.conv_block.*"),
        "n_scales_spatial": _consecutive(networks, "G", where),
        "no_flow": "model_final_flow.1.weight" not in coarsest,
        "norm": "batch" if "model_down_seg.2.weight" in coarsest else "instance",
    }
    if "indv_final.1.weight" not in coarsest:
        settings["foreground_classes"] = []
    if "G1" in networks:
        local = _count(networks["G1"], r"(model_up_img\.\d+)\.conv_block.*")
        settings["n_blocks_local"] = local
    return settings


def _image_settings(
    networks: Mapping[str, State], settings: dict[str, dict[str, Any]], where: str
) -> dict[str, Any]:
    in_width, patch_settings = _patch_settings(networks, "D", where)
    n_classes = settings["generator"]["n_classes"]
    if in_width != n_classes + 3:
        raise ArtifactError(
            f"{where}: D judges {in_width} channels, expected the {n_classes} classes of G0 and "
            "RGB; check that both come from the same training run"
        )
    return {"n_classes": n_classes, **patch_settings}


def _temporal_settings(networks: Mapping[str, State], where: str) -> dict[str, Any]:
    n_scales = _consecutive(networks, "D_T", where)
    in_width, settings = _patch_settings(networks, "D_T0", where)
    n_frames_D = (in_width + 2) // 5
    if in_width != 3 * n_frames_D + 2 * (n_frames_D - 1):
        raise ArtifactError(
            f"{where}: D_T0 judges {in_width} channels, expected 3*F + 2*(F-1) of F frames and the "
            "flow between them; a discriminator of another kind cannot be imported"
        )
    return {"n_scales_temporal": n_scales, "n_frames_D": n_frames_D, **settings}


def _patch_settings(
    networks: Mapping[str, State], network: str, where: str
) -> tuple[int, dict[str, Any]]:
    """Input channels of a discriminator, and the settings common to all discriminators."""
    state = networks[network]
    num_D = _count(state, r"scale(\d+)_layer.*")
    ndf, in_width = _convolution(
        networks, network, f"scale{max(num_D - 1, 0)}_layer0.0.weight", where
    )
    return in_width, {
        "ndf": ndf,
        "n_layers": _count(state, r"scale0_layer(\d+)\..*") - 2,
        "num_D": num_D,
        "norm": "batch" if "scale0_layer1.1.weight" in state else "instance",
    }


def _convolution(
    networks: Mapping[str, State], network: str, name: str, where: str
) -> tuple[int, int]:
    """Output and input channels of a convolution."""
    weight = networks[network].get(name)
    if weight is None or weight.ndim != 4:
        found = "no such parameter" if weight is None else f"shape {tuple(weight.shape)}"
        raise ArtifactError(
            f"{where}: {network}, {name}: found {found}, expected a convolution; only vid2vid's "
            "composite generator and its discriminators with feature matching can be imported"
        )
    return weight.shape[0], weight.shape[1]


def _count(state: State, pattern: str, dims: int | None = None) -> int:
    """Number of distinct values of the pattern's group among the keys of a state dict."""
    matches = [
        re.fullmatch(pattern, name)
        for name, tensor in state.items()
        if dims is None or tensor.ndim == dims
    ]
    return len({match[1] for match in matches if match})


def _consecutive(networks: Mapping[str, State], prefix: str, where: str) -> int:
    """Number of networks `prefix0`, `prefix1`, ...; they must be consecutive."""
    found = sorted(
        int(n.removeprefix(prefix)) for n in networks if re.fullmatch(prefix + r"\d+", n)
    )
    if found != list(range(len(found))):
        raise ArtifactError(
            f"{where}: found {', '.join(f'{prefix}{n}' for n in found)}; one between is missing"
        )
    return len(found)


def _read_directory(source: Path, label: str | None) -> dict[str, State]:
    files: dict[str, dict[str, Path]] = {}
    for path in sorted(source.iterdir()):
        match = re.fullmatch(r"(.+)_net_(G\d+|D|D_T\d+)\.pth", path.name)
        if match:
            files.setdefault(match[1], {})[match[2]] = path
    labels = [name for name, networks in files.items() if "G0" in networks]
    if label is None:
        label = "latest" if len(labels) != 1 else labels[0]
    if label not in labels:
        held = f"it holds those of {', '.join(labels)}; choose with --label" if labels else (
            "give the directory that vid2vid saved its networks to"
        )  # fmt: skip
        raise ArtifactError(f"{source}: no file {label}_net_G0.pth in it; {held}")
    networks = {}
    for network, path in files[label].items():
        state = load_published(path)
        if not is_state(state):
            raise ArtifactError(f"{path}: expected a state dict (name to tensor)")
        networks[network] = state
    return networks


def main(arguments: list[str] | None = None) -> int:
    """Command line of the importer; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hvp.image.vid2vid.published",
        description="Turn a published vid2vid checkpoint into one of ours.",
    )
    parser.add_argument("source", type=Path, help="checkpoint file, or directory of *_net_*.pth")
    parser.add_argument("destination", type=Path, help="Lightning checkpoint to write (.ckpt)")
    parser.add_argument("--label", help="which checkpoint of a directory (default: latest)")
    options = parser.parse_args(arguments)
    try:
        published = import_published(options.source, options.label)
        save_checkpoint(published.state, "vid2vid", 1, published.settings, options.destination)
    except HVPError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    settings = ", ".join(f"{k}={v}" for k, v in published.settings["generator"].items())
    say(f"wrote {options.destination}: image generator with {settings}")
    for note in published.notes:
        say(f"note: {note}")
    return 0


if __name__ == "__main__":
    with orderly_exit():
        raise SystemExit(main())
