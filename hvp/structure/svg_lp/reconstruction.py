"""Posterior reconstruction with NLL and KL (teacher forcing), streamed over clips of any length.

Equals `SVGLPNetwork.training_pass`, which holds all frames in memory; here frames are processed one
by one and the recurrent states carried along.

Shapes: B clips, H image height, W width.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from hvp.structure.base import Reconstruction
from hvp.structure.svg_lp.layers import State
from hvp.structure.svg_lp.network import (
    SkipPolicy,
    SVGLPNetwork,
    gaussian_kl,
    negative_log_likelihood,
)
from hvp.structure.svg_lp.recurrent import sample_gaussian


@torch.no_grad()
def reconstruct_stream(
    model: SVGLPNetwork,
    labels: Iterable[Tensor],
    skip_policy: SkipPolicy,
    noise: Iterator[Tensor],
) -> Iterator[Reconstruction]:
    """Posterior reconstruction of every frame but the first, in memory constant in clip length.

    Args:
        model: in eval mode.
        labels: true uint8 label maps (B, H, W), in order, on the model's device.
        skip_policy: skips of frame t-1 (`latest`), or of frame min(t, n_past) - 1 (`frozen`).
        noise: yields one standard-normal tensor (B, z, h, w) per predicted frame.

    Yields:
        Frames 1, 2, ... of the clips.
    """
    before_Bghw: Tensor | None = None
    terms: list[Tensor] = []
    posterior: State | None = None
    prior: State | None = None
    predictor: list[State] | None = None
    for t, labels_BHW in enumerate(labels):
        latent_Bghw, skips = model.encoder(model.embed(labels_BHW))
        if before_Bghw is not None:
            mu, logvar, posterior = model.posterior(latent_Bghw, posterior)
            prior_mu, prior_logvar, prior = model.prior(before_Bghw, prior)
            noise_Bzhw = sample_gaussian(mu, logvar, next(noise))
            predicted_Bghw, predictor = model.predictor(before_Bghw, noise_Bzhw, predictor)
            scores_BCHW = model.decoder(predicted_Bghw, terms)
            # One "time step" per clip: the mean is over the pixels of one clip.
            nll_B = negative_log_likelihood(scores_BCHW[:, None], labels_BHW[:, None])
            kl_B = gaussian_kl(mu, logvar, prior_mu, prior_logvar)
            yield Reconstruction(scores_BCHW.argmax(1).to(torch.uint8), nll_B, kl_B)
        before_Bghw = latent_Bghw
        if t < model.n_past or skip_policy == "latest":
            terms = model.decoder.skip_terms(skips)
