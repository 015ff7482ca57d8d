"""Free-running training: the model learns on the frames that its own roll-outs would show it.

Teacher forcing, as published, shows the true past at every step; a roll-out shows the model its own
frames, whose errors it has never learned to live with. Scheduled sampling (Bengio et al., NeurIPS
2015, arXiv 1506.03099) closes that gap. What is fed back is an argmax, through which no gradient
flows; so the frames can be generated first, without gradients, and then be trained on in the same
batched pass as true ones (`SVGLPNetwork.training_pass`). For the same reason little is lost when
only a window of a long roll-out is trained on, namely the gradient of the recurrent states at its
beginning; and the model learns, at the price of a few frames, what happens far behind the context.

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
    """What `SVGLPNetwork.training_pass` needs beside the clip from frame `first` on."""

    shown_NCHW: Tensor
    """What the model sees of frames first..T-2, as `SVGLPNetwork.embed` gives it."""
    state: RecurrentState | None
    """Recurrent state behind the frames before; None at `first` 0."""


@torch.no_grad()
def free_run(
    model: SVGLPNetwork,
    labels_BTHW: Tensor,
    skip_policy: SkipPolicy,
    eps_TBzhw: Tensor,
    first: int = 0,
) -> FreeRun:
    """What the model sees of frames first..T-2 when it goes on from its own behind the context.

    Batch norm, if any, normalises as in a roll-out.

    Args:
        model: any mode; left as it was.
        labels_BTHW: true clips, with T > `model.n_past`. Their first `n_past` frames are shown as
            they are; the others are seen by the posterior alone, so that the noise follows them.
        skip_policy: whose skips the decoder sees beyond the context.
        eps_TBzhw: standard-normal noise (T-1, B, z, h, w) of the posterior, as the training pass
            takes it.
        first: where the training pass will begin: 0, or a frame n_past..T-2 behind the context.
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
    shown = [*true_NCHW.split(n_clips)[:n_past]]
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
        shown.append(model.embed(model.emit(model.decoder(predicted_Bghw, terms))))
        latent_Bghw, own_skips = model.encoder(shown[-1])
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
        state = RecurrentState(posterior, prior, states_at_first, shown[n_past - 1])
    model.train(was_training)
    return FreeRun(torch.cat(shown[first:]), state)
