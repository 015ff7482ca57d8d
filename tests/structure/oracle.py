"""Reference implementation of SVG-LP: the published loop, step by step, slow and plain.

One frame, one time step, one sample after another; every frame encoded twice; the decoder sees the
concatenation of upsampled map and skip. It shares only the weights with `SVGLPNetwork`.

Shapes: B clips, T frames, S samples, C classes, H W image size, z h w noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvp.structure.svg_lp.network import SVGLPNetwork

State = tuple[Tensor, Tensor]


def _same_conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=1)


def _block(block: Any, x: Tensor) -> Tensor:
    x = _same_conv(block.conv, x)
    if block.bn is not None:
        x = nn.BatchNorm2d.forward(block.bn, x)
    return torch.relu(x)


def encode(model: Any, one_hot_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
    x, skips = one_hot_BCHW, []
    for index, level in enumerate(model.encoder.levels):
        if index > 0:
            x = F.max_pool2d(x, 2)
        for block in level:
            x = _block(block, x)
        skips.append(x)
    if model.encoder.pool_deepest:
        x = F.max_pool2d(x, 2)
    return torch.relu(_same_conv(model.encoder.bottleneck, x)), skips


def decode(model: Any, latent_Bghw: Tensor, skips: list[Tensor]) -> Tensor:
    x = latent_Bghw
    for level, skip in zip(model.decoder.levels, reversed(skips), strict=True):
        if x.shape[2:] != skip.shape[2:]:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = torch.cat([x, skip], dim=1)
        for block in level.blocks:
            x = _block(block, x)
    return F.log_softmax(_same_conv(model.decoder.classes, x), dim=1)


def _zeros(cell: Any, x: Tensor) -> State:
    shape = (x.shape[0], cell.hidden.in_channels, *x.shape[2:])
    return x.new_zeros(shape), x.new_zeros(shape)


def _cell(cell: Any, x: Tensor, state: State) -> State:
    gates = _same_conv(cell.input, x) + _same_conv(cell.hidden, state[0])
    i, f, g, o = gates.chunk(4, dim=1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


class _Gaussian:
    def __init__(self, network: Any) -> None:
        self.network = network
        self.state: State | None = None

    def __call__(self, latent: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = _same_conv(self.network.embed, latent)
        self.state = _cell(self.network.cell, x, self.state or _zeros(self.network.cell, x))
        mu = _same_conv(self.network.mu, self.state[0])
        logvar = _same_conv(self.network.logvar, self.state[0])
        return mu + eps * (logvar / 2).exp(), mu, logvar


class _Predictor:
    def __init__(self, network: Any) -> None:
        self.network = network
        self.states: list[State | None] = [None] * len(network.cells)

    def __call__(self, latent: Tensor, noise: Tensor) -> Tensor:
        x = _same_conv(self.network.embed, torch.cat([latent, noise], dim=1))
        for layer, cell in enumerate(self.network.cells):
            state = _cell(cell, x, self.states[layer] or _zeros(cell, x))
            self.states[layer], x = state, state[0]
        return torch.relu(_same_conv(self.network.output, x))


def _detached(state: State | None) -> State | None:
    return state and (state[0].detach(), state[1].detach())


def _one_hot(model: SVGLPNetwork, labels_BHW: Tensor) -> Tensor:
    one_hot_BHWC = F.one_hot(labels_BHW.long(), model.n_classes)
    dtype = model.encoder.bottleneck.weight.dtype
    return one_hot_BHWC.permute(0, 3, 1, 2).to(dtype).contiguous()


@dataclass
class OraclePass:
    nll_T: Tensor
    kl_T: Tensor
    loss: Tensor
    log_probs_TBCHW: Tensor


def training_pass(
    model: SVGLPNetwork,
    labels_BTHW: Tensor,
    skip_policy: str,
    eps_TBzhw: Tensor,
    beta: float,
    free_running: bool = False,
    first: int = 0,
) -> OraclePass:
    """With `free_running` the model sees its own last frame from frame n_past on. Gradients flow
    through the steps behind frame `first` alone, and the result is theirs.
    """
    posterior, prior = _Gaussian(model.posterior), _Gaussian(model.prior)
    predictor = _Predictor(model.predictor)
    frames = [_one_hot(model, labels) for labels in labels_BTHW.unbind(1)]
    nll: list[Tensor] = []
    kl: list[Tensor] = []
    log_probs: list[Tensor] = []
    for t in range(1, len(frames)):
        shown = frames[t - 1]
        if t == first + 1 and first:
            nll, kl = [], []
            for network in (posterior, prior):
                network.state = _detached(network.state)
            predictor.states = [_detached(state) for state in predictor.states]
        if free_running and t > model.n_past:
            shown = _one_hot(model, log_probs[-1].argmax(1))
        latent, skips = encode(model, shown)
        target, _ = encode(model, frames[t])
        if skip_policy == "latest" or t <= model.n_past:
            skips_used = skips
        z, mu, logvar = posterior(target, eps_TBzhw[t - 1])
        _, mu_p, logvar_p = prior(latent, torch.zeros_like(mu))
        log_probs.append(decode(model, predictor(latent, z), skips_used))
        nll.append(F.nll_loss(log_probs[-1], labels_BTHW[:, t].long()))
        sigma, sigma_p = (logvar / 2).exp(), (logvar_p / 2).exp()
        divergence = (
            torch.log(sigma_p / sigma)
            + (logvar.exp() + (mu - mu_p) ** 2) / (2 * logvar_p.exp())
            - 1 / 2
        )
        kl.append(divergence.sum() / len(labels_BTHW))
    nll_T, kl_T = torch.stack(nll), torch.stack(kl)
    return OraclePass(nll_T, kl_T, (nll_T + beta * kl_T).sum(), torch.stack(log_probs))


@torch.no_grad()
def rollout_one(
    model: SVGLPNetwork,
    context_BTHW: Tensor,
    horizon: int,
    skip_policy: str,
    eps_posterior: Callable[[int], Tensor],
    eps_prior: Callable[[int], Tensor],
) -> Tensor:
    """One future (B, horizon, H, W) per clip; `eps_*(t)` is the noise (B, z, h, w) of step t."""
    posterior, prior = _Gaussian(model.posterior), _Gaussian(model.prior)
    predictor = _Predictor(model.predictor)
    n_context = context_BTHW.shape[1]
    frames = [_one_hot(model, labels) for labels in context_BTHW.unbind(1)]
    generated: list[Tensor] = []
    for t in range(1, n_context + horizon):
        latent, skips = encode(model, frames[t - 1])
        if skip_policy == "latest" or t <= n_context:
            skips_used = skips
        if t < n_context:
            target, _ = encode(model, frames[t])
            z, _, _ = posterior(target, eps_posterior(t))
            prior(latent, torch.zeros_like(z))
            predictor(latent, z)
        else:
            z, _, _ = prior(latent, eps_prior(t))
            log_probs = decode(model, predictor(latent, z), skips_used)
            generated.append(log_probs.argmax(1).to(torch.uint8))
            frames.append(_one_hot(model, generated[-1]))
    return torch.stack(generated, dim=1)


def _sample_noise(noise: Sequence[Tensor], sample: int, t: int) -> Tensor:
    return noise[t - 1][:, sample]


def rollout(
    model: SVGLPNetwork,
    context_BTHW: Tensor,
    horizon: int,
    n_samples: int,
    skip_policy: str,
    noise: Sequence[Tensor],
) -> Tensor:
    """Futures (B, S, horizon, H, W), one sample after another, each from its own context pass.

    `noise` is what `SVGLPNetwork.rollout` takes, as a list.
    """
    samples = []
    for s in range(n_samples):
        samples.append(
            rollout_one(
                model,
                context_BTHW,
                horizon,
                skip_policy,
                eps_posterior=lambda t: noise[t - 1],
                eps_prior=partial(_sample_noise, noise, s),
            )
        )
    return torch.stack(samples, dim=1)
