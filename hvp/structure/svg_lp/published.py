"""Checkpoint importer: the authors' SVG-LP weights to a checkpoint of this framework.

    python -m hvp.structure.svg_lp.published SOURCE DESTINATION.ckpt

SOURCE is either the single file of five state dicts (`encoder`, `decoder`, `frame_predictor`,
`posterior`, `prior`; optimizers and counters in it are ignored) or a DeepSpeed directory, which
holds `<network>/mp_rank_00_model_states.pt` for each of the five. Class count, size, widths and
batch norm are inferred from the tensors' shapes.
"""

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hvp.errors import ArtifactError, HVPError
from hvp.log import say
from hvp.published import State, check_state, is_state, load_published, save_checkpoint
from hvp.signals import orderly_exit
from hvp.structure.svg_lp.layers import ARCHITECTURES
from hvp.structure.svg_lp.network import SVGLPNetwork

NETWORKS = ("encoder", "decoder", "frame_predictor", "posterior", "prior")
"""Published names of the five networks."""

_CELL_NAMES = {
    "weight_ih": "input.weight",
    "weight_hh": "hidden.weight",
    "bias_ih": "input.bias",
    "bias_hh": "hidden.bias",
}


@dataclass(frozen=True)
class PublishedStructure:
    """Published checkpoint, converted."""

    settings: dict[str, Any]
    """Arguments of `SVGLPNetwork`, except `n_past` (not inferable from tensor shapes)."""
    state: State
    """State dict of `SVGLPNetwork`."""


def import_published(source: Path) -> PublishedStructure:
    """Read and convert a published checkpoint, file or DeepSpeed directory; dtypes are kept.

    Raises:
        ArtifactError: the source is missing, would unpickle code, or is another kind of file.
    """
    return convert(read_published(source), str(source))


def read_published(source: Path) -> dict[str, State]:
    """State dicts of the five networks under published names, without the `module.` prefix."""
    content = _read_directory(source) if source.is_dir() else load_published(source)
    networks: dict[str, State] = {}
    for network in NETWORKS:
        state = content.get(network) if isinstance(content, Mapping) else None
        if not is_state(state):
            raise ArtifactError(
                f"{source}: no state dict {network!r} in it; expected the five state dicts "
                f"{', '.join(NETWORKS)} of a published structure checkpoint"
            )
        networks[network] = {name.removeprefix("module."): t for name, t in state.items()}
    return networks


def convert(networks: Mapping[str, State], where: str) -> PublishedStructure:
    """Convert five state dicts with published names; `where` names their origin in errors.

    Raises:
        ArtifactError: names or shapes are not those of a published structure generator.
    """
    settings = _infer_settings(networks, where)
    with torch.device("meta"):
        expected = SVGLPNetwork(**settings, n_past=1).state_dict()
    state = {
        convert_key(network, name, settings["size"]): tensor
        for network in NETWORKS
        for name, tensor in networks[network].items()
    }
    check_state(
        state,
        expected,
        f"{where}: not a published structure generator of size {settings['size']}",
        "check that all five networks come from the same training run",
    )
    return PublishedStructure(settings, state)


def convert_key(network: str, name: str, size: tuple[int, int]) -> str:
    """Key in `SVGLPNetwork.state_dict()` of a published one, e.g. `encoder`, `c1.0.conv.weight`."""
    if network in ("encoder", "decoder"):
        match = re.fullmatch(r"c(\d+)\.(\d+)\.(.+)", name)
        if match is None:
            return f"{network}.{name}"
        level, block, rest = int(match[1]) - 1, int(match[2]), match[3]
        table = ARCHITECTURES[size]
        if network == "encoder":
            if level == len(table.encoder):
                return f"encoder.bottleneck.{rest.removeprefix('conv.')}"
            return f"encoder.levels.{level}.{block}.{rest}"
        if level == len(table.decoder) - 1 and block == len(table.decoder[-1]):
            return f"decoder.classes.{rest.removeprefix('conv.')}"
        return f"decoder.levels.{level}.blocks.{block}.{rest}"
    head, _, rest = name.partition(".")
    if network == "frame_predictor":
        if head == "lstm":
            layer, _, parameter = rest.partition(".")
            return f"predictor.cells.{layer}.{_CELL_NAMES.get(parameter, parameter)}"
        return f"predictor.{head}.{rest.removeprefix('0.')}"
    if head == "lstm":
        parameter = rest.removeprefix("0.")
        return f"{network}.cell.{_CELL_NAMES.get(parameter, parameter)}"
    return f"{network}.{head.removesuffix('_net')}.{rest.removeprefix('0.')}"


def _infer_settings(networks: Mapping[str, State], where: str) -> dict[str, Any]:
    encoder = networks["encoder"]
    try:
        base_width, n_classes = encoder["c1.0.conv.weight"].shape[:2]
        level_widths: list[int] = []
        while f"c{len(level_widths) + 1}.1.conv.weight" in encoder:
            level_widths.append(encoder[f"c{len(level_widths) + 1}.1.conv.weight"].shape[0])
        latent_width = encoder[f"c{len(level_widths) + 1}.0.conv.weight"].shape[0]
        noise_width, rnn_width = networks["prior"]["mu_net.0.weight"].shape[:2]
    except KeyError as error:
        raise ArtifactError(
            f"{where}: no parameter {error} in it; expected the published structure generator"
        ) from error
    for size, table in ARCHITECTURES.items():
        if [multiple * base_width for multiple, _ in table.encoder] == level_widths:
            return {
                "n_classes": n_classes,
                "size": size,
                "base_width": base_width,
                "latent_width": latent_width,
                "noise_width": noise_width,
                "rnn_width": rnn_width,
                "batch_norm": "c1.0.bn.weight" in encoder,
            }
    raise ArtifactError(
        f"{where}: encoder level widths {level_widths} belong to no published size "
        f"({', '.join(f'{h}x{w}' for h, w in ARCHITECTURES)})"
    )


def _read_directory(source: Path) -> dict[str, Any]:
    contents = {network: load_published(_model_states(source, network)) for network in NETWORKS}
    return {n: c.get("module") for n, c in contents.items() if isinstance(c, Mapping)}


def _model_states(source: Path, network: str) -> Path:
    """DeepSpeed file `<network>/mp_rank_00_model_states.pt`, or below the tag of `latest`."""
    directory = source / network
    latest = directory / "latest"
    if latest.is_file():
        directory = directory / latest.read_text(encoding="utf-8").strip()
    file = directory / "mp_rank_00_model_states.pt"
    if file.is_file():
        return file
    deeper = sorted((source / network).glob(f"*/{file.name}"))
    if len(deeper) != 1:
        raise ArtifactError(
            f"{source}: {len(deeper)} files {network}/*/{file.name} and no {network}/{file.name}; "
            "give the checkpoint directory that holds one directory per network "
            f"({', '.join(NETWORKS)})"
        )
    return deeper[0]


def main(arguments: list[str] | None = None) -> int:
    """Command line of the importer; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hvp.structure.svg_lp.published",
        description="Turn a checkpoint of the published structure generator into one of ours.",
    )
    parser.add_argument(
        "source", type=Path, help="checkpoint file, or DeepSpeed directory with one directory each"
    )
    parser.add_argument("destination", type=Path, help="Lightning checkpoint to write (.ckpt)")
    options = parser.parse_args(arguments)
    try:
        published = import_published(options.source)
        weights = {f"network.{name}": tensor for name, tensor in published.state.items()}
        network = {**published.settings, "size": list(published.settings["size"])}
        save_checkpoint(weights, "svg_lp", 1, {"network": network}, options.destination)
    except HVPError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    settings = ", ".join(f"{key}={value}" for key, value in published.settings.items())
    say(f"wrote {options.destination}: structure generator with {settings}")
    return 0


if __name__ == "__main__":
    with orderly_exit():
        raise SystemExit(main())
