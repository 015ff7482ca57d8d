"""vid2vid generator of one spatial scale (Wang et al. 2018, section 3).

From the last K label maps and the last K-1 RGB frames it predicts the next frame as a blend of the
previous frame, warped by a predicted flow, and of a hallucinated image; the blending weights (soft
occlusion mask) are predicted too. Foreground classes, whose motion differs too much from that of
their surroundings, have a branch of their own (foreground-background prior).

Shapes: B batch, C classes, K label maps per window, H W image size of this scale, h w size of the
coarser scale (or of the latent, for the coarsest).
"""

import math
from typing import NamedTuple

from torch import Tensor, nn

from hvp.flow.warp import warp
from hvp.image.vid2vid.layers import (
    encoder,
    initialise,
    norm_layer,
    output_layer,
    residual_blocks,
    trunk,
)


class Features(NamedTuple):
    """Features before the output layers of a scale, added to those of the next finer scale."""

    image_BDHW: Tensor
    flow_BDHW: Tensor | None
    foreground_BDHW: Tensor | None


class GeneratorOutput(NamedTuple):
    """One generated frame."""

    image_B3HW: Tensor
    """RGB frame in [-1, 1], composed of the hallucinated, warped and foreground images."""
    raw_B3HW: Tensor
    """The frame without the warped image, RGB in [-1, 1]."""
    flow_B2HW: Tensor | None
    """Backward flow to the previous frame, in pixels; None with `no_flow`."""
    weight_B1HW: Tensor | None
    """Blending weight of the hallucinated image, in [0, 1]; None with `no_flow`."""
    features: Features


class ScaleGenerator(nn.Module):
    """Generator of one scale, built by `coarsest_generator` or `finer_generator`."""

    def __init__(
        self,
        label_branch: nn.Module,
        image_branch: nn.Module,
        image_trunk: nn.Module,
        flow_trunk: nn.Module | None,
        foreground_branch: nn.Module | None,
        foreground_trunk: nn.Module | None,
        width: int,
        foreground_width: int,
        flow_multiplier: float,
    ) -> None:
        super().__init__()
        self.flow_multiplier = flow_multiplier
        self.label_branch = label_branch
        self.image_branch = image_branch
        self.image_trunk = image_trunk
        self.image_out = output_layer(width, 3, nn.Tanh())
        self.flow_trunk = flow_trunk
        if flow_trunk is not None:
            self.flow_out = output_layer(width, 2, None)
            self.weight_out = output_layer(width, 1, nn.Sigmoid())
        self.foreground_branch = foreground_branch
        self.foreground_trunk = foreground_trunk
        if foreground_trunk is not None:
            self.foreground_out = output_layer(foreground_width, 3, nn.Tanh())
        initialise(self)

    def forward(
        self,
        labels_BLHW: Tensor,
        previous_BPHW: Tensor,
        foreground_B1HW: Tensor | None,
        coarse: Features | None,
        raw_only: bool,
    ) -> GeneratorOutput:
        """Generate the next frame.

        Args:
            labels_BLHW: one-hot label maps of the window, oldest first, L = K*C.
            previous_BPHW: previous RGB frames in [-1, 1], oldest first, P = 3*(K-1).
            foreground_B1HW: 1 where the current label is foreground; None without the branch.
            coarse: features of the next coarser scale; None at the coarsest.
            raw_only: leave out the warped image (there is no previous frame).
        """
        encoded = self.label_branch(labels_BLHW) + self.image_branch(previous_BPHW)
        image_features = self.image_trunk(encoded + coarse.image_BDHW if coarse else encoded)
        raw = final = self.image_out(image_features)

        flow = weight = flow_features = None
        if self.flow_trunk is not None:
            flow_features = self.flow_trunk(encoded + coarse.flow_BDHW if coarse else encoded)
            flow = self.flow_out(flow_features) * self.flow_multiplier
            weight = self.weight_out(flow_features)
            if not raw_only:
                final = raw * weight + warp(previous_BPHW[:, -3:], flow) * (1 - weight)

        foreground_features = None
        if self.foreground_branch is not None and self.foreground_trunk is not None:
            assert foreground_B1HW is not None
            encoded = self.foreground_branch(labels_BLHW)
            foreground_features = self.foreground_trunk(
                encoded + coarse.foreground_BDHW if coarse else encoded
            )
            painted = self.foreground_out(foreground_features)
            final = painted * foreground_B1HW + final * (1 - foreground_B1HW)
            raw = painted * foreground_B1HW + raw * (1 - foreground_B1HW)

        features = Features(image_features, flow_features, foreground_features)
        return GeneratorOutput(final, raw, flow, weight, features)


def _foreground_width(width: int, n_down: int) -> int:
    return width // 2 if n_down > 2 else width


def coarsest_generator(
    label_width: int,
    previous_width: int,
    width: int,
    n_down: int,
    n_blocks: int,
    norm: str,
    flow: bool,
    foreground: bool,
    flow_multiplier: float,
) -> ScaleGenerator:
    """Coarsest scale: composite generator; `n_blocks` are split between encoders and trunks."""
    make_norm = norm_layer(norm)
    inner = width * 2**n_down
    n_encoder_blocks, n_trunk_blocks = math.ceil(n_blocks / 2), n_blocks // 2

    def branch(in_width: int) -> nn.Sequential:
        return nn.Sequential(
            *encoder(in_width, width, n_down, make_norm),
            *residual_blocks(inner, n_encoder_blocks, make_norm),
        )

    foreground_width = _foreground_width(width, n_down)
    foreground_inner = foreground_width * 2**n_down
    return ScaleGenerator(
        label_branch=branch(label_width),
        image_branch=branch(previous_width),
        image_trunk=trunk(inner, n_trunk_blocks, n_down, make_norm),
        flow_trunk=trunk(inner, n_trunk_blocks, n_down, make_norm) if flow else None,
        foreground_branch=nn.Sequential(*encoder(label_width, foreground_width, n_down, make_norm))
        if foreground
        else None,
        foreground_trunk=trunk(foreground_inner, n_blocks, n_down, make_norm)
        if foreground
        else None,
        width=width,
        foreground_width=foreground_width,
        flow_multiplier=flow_multiplier,
    )


def finer_generator(
    label_width: int,
    previous_width: int,
    width: int,
    n_down: int,
    n_blocks: int,
    norm: str,
    flow: bool,
    foreground: bool,
    flow_multiplier: float,
) -> ScaleGenerator:
    """Finer scale: local enhancer; one downsampling, plus the coarser features, one upsampling.

    `n_down` is that of the coarsest scale, which determines the width of the foreground branch.
    """
    make_norm = norm_layer(norm)
    foreground_width = _foreground_width(width, n_down)
    return ScaleGenerator(
        label_branch=nn.Sequential(*encoder(label_width, width, 1, make_norm)),
        image_branch=nn.Sequential(*encoder(previous_width, width, 1, make_norm)),
        image_trunk=trunk(2 * width, n_blocks, 1, make_norm),
        flow_trunk=trunk(2 * width, n_blocks, 1, make_norm) if flow else None,
        foreground_branch=nn.Sequential(*encoder(label_width, foreground_width, 1, make_norm))
        if foreground
        else None,
        foreground_trunk=trunk(2 * foreground_width, n_blocks, 1, make_norm)
        if foreground
        else None,
        width=width,
        foreground_width=foreground_width,
        flow_multiplier=flow_multiplier,
    )
