"""Names of the published (vid2vid) checkpoints, translated to ours.

`checkpoint` is {`G0`[, `G1` ...]: a generator per spatial scale, `D`: the image discriminator,
`D_T0` ...: the temporal ones}, each a state dict; a `module.` prefix is dropped.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from hvp.errors import ArtifactError

State = Mapping[str, Tensor]

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
    """Our name, within `SequenceGenerator`, of a generator's parameter or buffer.

    Finer scales keep residual blocks and upsampling in one published list: `n_blocks_local` tells
    where the blocks end.

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
    """Our name, within `MultiscaleDiscriminator`, of a parameter or buffer.

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
