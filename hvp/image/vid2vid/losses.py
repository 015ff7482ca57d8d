"""Losses of vid2vid: GAN, feature matching, perceptual (VGG19), flow and warping terms.

Source: Wang et al. 2018. Terms have their published names: `G_*`, `F_*` and `W` train the
generator, `D_*` the discriminators. Shapes: N images (batch times frames), C classes, G frame
groups, F frames per group, H W size. Losses are float32 (float64 of float64 inputs), also where the
networks run in half precision.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg19

from hvp.flow.warp import warp
from hvp.image.vid2vid.discriminators import ImageDiscriminator, Maps, TemporalDiscriminators
from hvp.image.vid2vid.sequence import GeneratedSequence
from hvp.precision import full_precision
from hvp.pretrained import load_frozen_weights, load_pretrained

Terms = dict[str, Tensor]


def masked_l1(image_NCHW: Tensor, target_NCHW: Tensor, mask_N1HW: Tensor) -> Tensor:
    """Masked L1: mean over all pixels of |image - target| * mask."""
    mask_N1HW = full_precision(mask_N1HW)
    return F.l1_loss(
        full_precision(image_NCHW) * mask_N1HW, full_precision(target_NCHW) * mask_N1HW
    )


def gan_loss(maps: Maps, real: bool) -> Tensor:
    """LSGAN loss (Mao et al. 2017): squared error of the patch scores, summed over scales."""
    target = 1.0 if real else 0.0
    scores = [full_precision(scale[-1]) for scale in maps]
    return torch.stack([(score - target).square().mean() for score in scores]).sum()


def feature_matching(fake: Maps, real: Maps) -> Tensor:
    """Feature matching loss: L1 between discriminator features of fake and real, without scores.

    Weights: 4 / (layers before the scores) per layer, 1 / scales per scale.
    """
    total = full_precision(fake[0][0].new_zeros(()))
    for fake_scale, real_scale in zip(fake, real, strict=True):
        for fake_map, real_map in zip(fake_scale[:-1], real_scale[:-1], strict=True):
            weight = 4 / (len(fake_scale) - 1) / len(fake)
            distance = F.l1_loss(full_precision(fake_map), full_precision(real_map.detach()))
            total = total + weight * distance
    return total


class VGG19Perceptual:
    """Perceptual loss: L1 between VGG19 features of two images (Johnson et al. 2016).

    Images are in [-1, 1], not normalised for ImageNet, as in the published code. Deliberately no
    nn.Module: the frozen network stays out of checkpoints, optimizers and gradient reduction.

    Args:
        weights: path of torchvision's VGG19 state dict, or `download`.
        layer_weights: of relu1_1, relu2_1, relu3_1, relu4_1, relu5_1.

    Raises:
        ConfigError: the weights cannot be loaded.
    """

    _RELUS = (1, 6, 11, 20, 29)
    """Indices of relu1_1 ... relu5_1 in torchvision's `vgg19().features`."""

    def __init__(self, weights: str, layer_weights: Sequence[float]) -> None:
        key = "perceptual.weights"
        state = load_pretrained(weights, VGG19_Weights.IMAGENET1K_V1, key)
        with torch.device("meta"):
            features = vgg19().features[: self._RELUS[-1] + 1]
        names = features.state_dict()
        kept = {name.removeprefix("features."): tensor for name, tensor in state.items()}
        load_frozen_weights(features, {n: kept[n] for n in names if n in kept}, weights, key)
        self.layer_weights = list(layer_weights)
        bounds = [0, *(relu + 1 for relu in self._RELUS)]
        self._slices = nn.ModuleList(features[a:b] for a, b in pairwise(bounds))

    def __call__(self, fake_N3HW: Tensor, real_N3HW: Tensor) -> Tensor:
        """Weighted sum over layers; gradients flow to `fake_N3HW` only.

        The features are at least float32 too: autocast is off here.
        """
        fake_N3HW, real_N3HW = full_precision(fake_N3HW), full_precision(real_N3HW.detach())
        self._slices.to(fake_N3HW)
        total = fake_N3HW.new_zeros(())
        with torch.autocast(fake_N3HW.device.type, enabled=False):
            for weight, part in zip(self.layer_weights, self._slices, strict=True):
                fake_N3HW = part(fake_N3HW)
                with torch.no_grad():
                    real_N3HW = part(real_N3HW)
                total = total + weight * F.l1_loss(fake_N3HW, real_N3HW)
        return total


@dataclass
class LossInputs:
    """Loss inputs: generated frames and their targets; N = batch times frames."""

    labels_NCHW: Tensor
    """One-hot labels."""
    real_N3HW: Tensor
    """True frames, RGB in [-1, 1] like all images here."""
    real_previous_N3HW: Tensor
    """The true frame before each."""
    fake_N3HW: Tensor
    raw_N3HW: Tensor
    """Generated frames without the warped image."""
    fake_previous_N3HW: Tensor
    """The generated frame before each (true before the first), detached."""
    flow_N2HW: Tensor | None
    """Predicted backward flow in pixels; None with `no_flow`."""
    weight_N1HW: Tensor | None
    reference_N2HW: Tensor
    """Reference flow: the teacher's backward flow between the true frames, pixels."""
    confidence_N1HW: Tensor
    """Confidence mask of the reference flow, 1 or 0."""


def loss_inputs(
    generated: GeneratedSequence,
    before_B13HW: Tensor,
    labels_BTCHW: Tensor,
    real_BT3HW: Tensor,
    reference: tuple[Tensor, Tensor],
    first: int,
    n_given: int,
) -> LossInputs:
    """Loss inputs of a chunk: generated frames, real frames, labels and reference flow.

    Args:
        generated: the chunk: frames `first`, `first + 1`, ... of the generated video.
        before_B13HW: the frame before it, generated (detached) or, at the very start, true.
        labels_BTCHW, real_BT3HW: the clip, its `n_given` given frames included.
        reference: the teacher's flow and confidence mask of the whole generated video.
        first: index of the chunk's first frame in the generated video.
        n_given: true frames at the start of the clip.
    """
    fake_BN3HW = generated.fake_BN3HW
    chunk = slice(first, first + fake_BN3HW.shape[1])
    clip = slice(chunk.start + n_given, chunk.stop + n_given)
    previous = torch.cat([before_B13HW, fake_BN3HW[:, :-1].detach()], dim=1)
    flow, weight = generated.flow_BN2HW, generated.weight_BN1HW
    return LossInputs(
        labels_NCHW=labels_BTCHW[:, clip].flatten(0, 1),
        real_N3HW=real_BT3HW[:, clip].flatten(0, 1),
        real_previous_N3HW=real_BT3HW[:, clip.start - 1 : clip.stop - 1].flatten(0, 1),
        fake_N3HW=fake_BN3HW.flatten(0, 1),
        raw_N3HW=generated.raw_BN3HW.flatten(0, 1),
        fake_previous_N3HW=previous.flatten(0, 1),
        flow_N2HW=None if flow is None else flow.flatten(0, 1),
        weight_N1HW=None if weight is None else weight.flatten(0, 1),
        reference_N2HW=reference[0][:, chunk].flatten(0, 1),
        confidence_N1HW=reference[1][:, chunk].flatten(0, 1),
    )


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Freeze the parameters of `network`; gradients still reach its input."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


class Objective(nn.Module):
    """Loss terms of generator and discriminators; holds the discriminators.

    Args:
        image_discriminator: applied to the frames and to their raw versions.
        temporal_discriminators: one per temporal scale; None leaves them out.
        lambda_feat: weight of feature matching and of the perceptual term.
        lambda_F: weight of predicted against reference flow.
        lambda_T: weight of the warping terms.
    """

    def __init__(
        self,
        image_discriminator: ImageDiscriminator,
        temporal_discriminators: TemporalDiscriminators | None,
        lambda_feat: float,
        lambda_F: float,
        lambda_T: float,
    ) -> None:
        super().__init__()
        self.image_discriminator = image_discriminator
        self.temporal_discriminators = temporal_discriminators
        self.perceptual: VGG19Perceptual | None = None
        """VGG19 term; None leaves it out. Frozen, and not in the state dict."""
        self.lambda_feat = lambda_feat
        self.lambda_F = lambda_F
        self.lambda_T = lambda_T

    def frame_terms(
        self, frames: LossInputs, n_scales_spatial: int, synthesise_first: bool
    ) -> Terms:
        """All terms of single frames and their predecessors."""
        f = frames
        terms = self._flow_terms(f, n_scales_spatial, synthesise_first)
        warped = warp(full_precision(f.fake_previous_N3HW), f.reference_N2HW)
        terms["G_Warp"] = self.lambda_T * masked_l1(f.fake_N3HW, warped, f.confidence_N1HW)
        inputs = self.image_discriminator.inputs
        terms |= self._adversarial_terms(
            self.image_discriminator,
            real=inputs(f.labels_NCHW, f.real_N3HW),
            fakes=[inputs(f.labels_NCHW, image) for image in (f.fake_N3HW, f.raw_N3HW)],
            kind="",
        )
        if self.perceptual is not None:
            distance = self.perceptual(f.fake_N3HW, f.real_N3HW)
            distance = distance + self.perceptual(f.raw_N3HW, f.real_N3HW)
            terms["G_VGG"] = self.lambda_feat * distance
        return terms

    def temporal_terms(
        self, scale: int, real_GF3HW: Tensor, fake_GF3HW: Tensor, reference_GE2HW: Tensor
    ) -> Terms:
        """Terms of one temporal scale: groups of F frames and the E = F-1 flows between them."""
        assert self.temporal_discriminators is not None
        inputs = self.temporal_discriminators.inputs
        terms = self._adversarial_terms(
            self.temporal_discriminators.scales[scale],
            real=inputs(real_GF3HW, reference_GE2HW),
            fakes=[inputs(fake_GF3HW, reference_GE2HW)],
            kind="_T",
        )
        return {f"{name}{scale}": value for name, value in terms.items()}

    def _flow_terms(self, f: LossInputs, n_scales_spatial: int, synthesise_first: bool) -> Terms:
        if f.flow_N2HW is None or f.weight_N1HW is None:
            return {}
        to_reference = masked_l1(f.flow_N2HW, f.reference_N2HW, f.confidence_N1HW)
        warped = warp(full_precision(f.real_previous_N3HW), f.flow_N2HW)
        terms = {
            "F_Flow": self.lambda_F / 2 ** (n_scales_spatial - 1) * to_reference,
            "F_Warp": self.lambda_T * masked_l1(warped, f.real_N3HW, f.confidence_N1HW),
        }
        if synthesise_first:
            zero = torch.zeros_like(f.weight_N1HW)
            terms["W"] = masked_l1(f.weight_N1HW, zero, f.confidence_N1HW)
        return terms

    def _adversarial_terms(
        self, discriminator: nn.Module, real: Tensor, fakes: list[Tensor], kind: str
    ) -> Terms:
        """GAN and feature matching terms of generator and discriminator, summed over `fakes`.

        The real input is passed through the discriminator once: for its loss (counted once per
        fake, as published) and as the target of feature matching.
        """
        real_maps = discriminator(real)
        d_real = len(fakes) * gan_loss(real_maps, real=True)
        d_fake = g_gan = g_features = d_real.new_zeros(())
        for fake in fakes:
            d_fake = d_fake + gan_loss(discriminator(fake.detach()), real=False)
            with _frozen(discriminator):
                maps = discriminator(fake)
            g_gan = g_gan + gan_loss(maps, real=True)
            g_features = g_features + feature_matching(maps, real_maps)
        return {
            f"D{kind}_real": d_real,
            f"D{kind}_fake": d_fake,
            f"G{kind}_GAN": g_gan,
            f"G{kind}_GAN_Feat": self.lambda_feat * g_features,
        }


def generator_loss(terms: Terms) -> Tensor:
    """Generator loss: sum of its terms."""
    return torch.stack([v for name, v in terms.items() if not name.startswith("D")]).sum()


def discriminator_loss(terms: Terms) -> Tensor:
    """Discriminator loss: half the sum of the terms of all discriminators.

    They share no parameters, so one Adam over the sum equals one Adam per discriminator.
    """
    return 0.5 * torch.stack([v for name, v in terms.items() if name.startswith("D")]).sum()
