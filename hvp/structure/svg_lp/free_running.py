"""Scheduled sampling (free-running training): training on frames of the model's own roll-out.

Teacher forcing, as published, feeds the true past at every step; a roll-out feeds back the model's
own frames, whose errors it has not seen in training (exposure bias). Scheduled sampling (Bengio et
al., NeurIPS 2015, arXiv 1506.03099) closes that gap. The frame that is fed back is an argmax, which
passes no gradient; so the frames are generated first, without gradients, and then trained on in the
same batched pass as true frames (`SVGLPNetwork.training_pass`). For the same reason training on a
window of a long roll-out (truncated backpropagation through time) loses only the gradient of the
recurrent states at the start of the window, and trains steps far behind the context at the cost of
a few frames.

Shapes: B clips, T frames, N frames x B maps (time-major), C channels of what the encoder sees,
H W image size, z h w noise.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hvp.structure.svg_lp.layers import State
from hvp.structure.svg_lp.network import RecurrentState, SkipPolicy, SVGLPNetwork
from hvp.structure.svg_lp.recurrent import sample_gaussian


@dataclass(frozen=True)
class FreeRun:
    """Inputs of `SVGLPNetwork.training_pass` for a free-running window from frame `first` on."""

    inputs_NCHW: Tensor
    """Encoder inputs for frames first..T-2, as `SVGLPNetwork.embed` returns them."""
    state: RecurrentState | None
    """Recurrent state after the frames before `first`; None if `first` is 0."""


@torch.no_grad()
def free_run(
    model: SVGLPNetwork,
    labels_BTHW: Tensor,
    skip_policy: SkipPolicy,
    eps_TBzhw: Tensor,
    first: int = 0,
) -> FreeRun:
    """Roll-out with posterior noise: encoder inputs for frames first..T-2, the model's own beyond
    the context.

    Batch norm, if any, uses running statistics, as in a roll-out.

    Args:
        model: in any mode, which is restored.
        labels_BTHW: true clips, T > `model.n_past`. The first `n_past` frames are the context; only
            the posterior sees the later ones.
        skip_policy: skip connections of the decoder beyond the context.
        eps_TBzhw: standard-normal noise (T-1, B, z, h, w) of the posterior, as in the training
            pass.
        first: frame at which the training pass starts: 0, or n_past..T-2.
    """
    was_training = model.training
    model.eval()
    n_clips, n_steps = labels_BTHW.shape[0], labels_BTHW.shape[1] - 1
    n_past = min(model.n_past, n_steps)
    true_NCHW = model.embed(labels_BTHW.transpose(0, 1).flatten(0, 1))
    latent_Nghw, skips = model.encoder(true_NCHW)
    mu, logvar, _ = model.posterior(latent_Nghw[n_clips:], None, n_steps)
    noise_Nzhw = sample_gaussian(mu, logvar, eps_TBzhw.flatten(0, 1))

    own_latents = [*latent_Nghw.split(n_clips)[:n_past]]
    inputs = [*true_NCHW.split(n_clips)[:n_past]]
    terms = model.decoder.skip_terms(
        [skip[(n_past - 1) * n_clips : n_past * n_clips] for skip in skips]
    )
    states: list[State] | None = None
    if n_past > 1:
        n_before = (n_past - 1) * n_clips
        _, states = model.predictor.advance(
            latent_Nghw[:n_before], noise_Nzhw[:n_before], None, n_past - 1
        )
    states_at_first = states
    for t, noise_Bzhw in enumerate(noise_Nzhw.split(n_clips)[n_past - 1 : -1], n_past):
        predicted_Bghw, states = model.predictor(own_latents[-1], noise_Bzhw, states)
        inputs.append(model.embed(model.output_frame(model.decoder(predicted_Bghw, terms))))
        latent_Bghw, own_skips = model.encoder(inputs[-1])
        own_latents.append(latent_Bghw)
        if skip_policy == "latest":
            terms = model.decoder.skip_terms(own_skips)
        if t == first:
            states_at_first = states
    state = None
    if first:
        _, posterior = model.posterior.advance(
            latent_Nghw[n_clips : (first + 1) * n_clips], None, first
        )
        _, prior = model.prior.advance(torch.cat(own_latents[:first]), None, first)
        assert states_at_first is not None
        state = RecurrentState(posterior, prior, states_at_first, inputs[n_past - 1])
    model.train(was_training)
    return FreeRun(torch.cat(inputs[first:]), state)
