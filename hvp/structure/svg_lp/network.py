"""SVG-LP network: teacher-forced training pass and roll-out over label maps.

The structure generator of Lee et al. (ICLR 2021, section 3.1), which extends SVG-LP (Denton &
Fergus 2018). The published loop runs one time step and one sample at a time and encodes each frame
twice. Here every frame is encoded once, all frames in one call, and all clips and samples of a
roll-out form one batch; the numbers are the same (tests/structure/oracle.py).

Shapes: B clips, T frames, S samples, N = frames x B maps (time-major), R = N x H x W pixels,
C classes, H W image size, h w latent size, g latent width, z noise width.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvp.errors import ConfigError
from hvp.labels import IGNORE
from hvp.precision import full_precision
from hvp.structure.svg_lp.layers import (
    ConvBlock,
    Decoder,
    DecoderLevel,
    Encoder,
    State,
    architecture,
)
from hvp.structure.svg_lp.noise import rollout_noise
from hvp.structure.svg_lp.recurrent import (
    ConvLSTMCell,
    GaussianConvLSTM,
    Predictor,
    sample_gaussian,
)

_COPY_LOGIT = 2.0
"""Logit of the copied class at an identity initialisation; other classes have its negative. (For
pixels, sigmoid(4x - 2) is nearly x.)"""
_COPY_NOISE = 0.3
"""Scale of the random weights added to an identity initialisation, to break symmetry."""

SkipPolicy = Literal["frozen", "latest"]
"""Skip connections of the decoder beyond the context: those of the last context frame (`frozen`) or
of the newest frame (`latest`)."""


@dataclass(frozen=True)
class TrainingPass:
    """Losses and logits of one training pass over T frames, for its T-1 predicted frames."""

    nll_T: Tensor
    """Negative log-likelihood (T-1,) of each frame: nats, mean over batch and labelled pixels."""
    kl_T: Tensor
    """KL(posterior || prior) (T-1,) of each step: nats, sum over z, h, w and mean over batch."""
    scores_TBCHW: Tensor
    """Logits (T-1, B, C, H, W)."""

    def loss(self, beta: float, error_T: Tensor | None = None) -> Tensor:
        """Training loss (negative ELBO): sum over time of nll (or `error_T`) + beta * KL."""
        error_T = self.nll_T if error_T is None else error_T
        return (error_T + beta * self.kl_T).sum()


@dataclass(frozen=True)
class RecurrentState:
    """Recurrent state for a training pass that starts inside a clip."""

    posterior: State
    prior: State
    predictor: list[State]
    context_BCHW: Tensor
    """Encoder input of the last context frame, for `frozen` skips."""


class SVGLPNetwork(nn.Module):
    """SVG-LP network over label maps: encoder, decoder, frame predictor, posterior and prior."""

    def __init__(
        self,
        n_classes: int,
        size: Sequence[int],
        n_past: int,
        base_width: int = 64,
        latent_width: int = 128,
        noise_width: int = 128,
        rnn_width: int = 256,
        batch_norm: bool = False,
        init_std: float | None = 0.02,
    ) -> None:
        """Build and initialise the networks.

        Args:
            n_classes: C, number of label classes.
            size: (H, W) of the label maps; one of the published sizes.
            n_past: number of context frames.
            base_width: n, channels of the finest level.
            latent_width: g, channels of the latent.
            noise_width: z, channels of the spatial noise.
            rnn_width: r, channels of the ConvLSTMs.
            batch_norm: batch norm in encoder and decoder (the published default has none).
            init_std: standard deviation of convolution weights (published: 0.02). None uses Kaiming
                initialisation (He et al. 2015), as 0.02 makes activations vanish in networks much
                narrower than the published ones, and an identity initialisation, for short
                trainings: the untrained model copies the frame that its skips come from.

        Raises:
            ConfigError: the size has no published network, or `n_past` is below 1.
        """
        super().__init__()
        if n_past < 1:
            raise ConfigError(
                f"structure generator: n_past is {n_past}; give at least 1 context frame"
            )
        self.n_classes = n_classes
        self.size = tuple(size)
        self.n_past = n_past
        reduction = architecture(size).reduction
        self.noise_shape = (noise_width, self.size[0] // reduction, self.size[1] // reduction)
        """Shape (z, h, w) of the noise of one time step."""
        self.encoder = Encoder(n_classes, size, base_width, latent_width, batch_norm)
        self.decoder = Decoder(n_classes, size, base_width, latent_width, batch_norm)
        self.predictor = Predictor(latent_width, noise_width, rnn_width)
        self.posterior = GaussianConvLSTM(latent_width, noise_width, rnn_width)
        self.prior = GaussianConvLSTM(latent_width, noise_width, rnn_width)
        self._initialise(init_std)

    def _initialise(self, init_std: float | None) -> None:
        """Initialise all convolutions but those of ConvLSTM cells, which initialise themselves."""
        recurrent = {
            m for cell in self.modules() if isinstance(cell, ConvLSTMCell) for m in cell.children()
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module not in recurrent:
                if init_std is None:
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, 0.0, init_std)
        if init_std is None:
            self._initialise_as_identity()
            # Posterior and prior start at N(0, 1), as they nearly do with the published 0.02: a
            # large initial KL would make training collapse the posterior first.
            for gaussian in (self.posterior, self.prior):
                nn.init.zeros_(gaussian.mu.weight)
                nn.init.zeros_(gaussian.logvar.weight)

    def _initialise_as_identity(self) -> None:
        """Identity initialisation: the input passes through the finest skip to the logits."""
        first = cast(Iterable[ConvBlock], self.encoder.levels[0])
        finest = cast(DecoderLevel, self.decoder.levels[-1])
        scores = self.decoder.classes
        with torch.no_grad():
            for block in first:
                _dirac_with_noise_(block.conv.weight)
            for block in cast(Iterable[ConvBlock], finest.blocks):
                _dirac_with_noise_(block.conv.weight, skip=finest.below)
            _dirac_with_noise_(scores.weight, gain=2 * _COPY_LOGIT)
            cast(Tensor, scores.bias).fill_(-_COPY_LOGIT)

    def training_pass(
        self,
        labels_BTHW: Tensor,
        skip_policy: SkipPolicy,
        eps_TBzhw: Tensor | None = None,
        inputs_NCHW: Tensor | None = None,
        state: RecurrentState | None = None,
    ) -> TrainingPass:
        """Training pass (teacher forcing): predict frames 1..T-1 from the true frames before and
        noise of the posterior.

        Args:
            labels_BTHW: uint8 label ids (B, T, H, W), T >= 2; `IGNORE` pixels are all zeros in
                the input and excluded from the likelihood.
            skip_policy: skips of frame t-1 (`latest`), or of frame min(t, n_past) - 1 (`frozen`).
            eps_TBzhw: standard-normal noise (T-1, B, z, h, w) of the posterior; by default drawn
                from torch's global generator.
            inputs_NCHW: scheduled sampling: encoder inputs for frames 0..T-2 that replace the true
                ones, which only the posterior then sees (`free_running.free_run`); None for
                teacher forcing, as published.
            state: recurrent state before frame 0, for a window behind the context of a longer clip.
                Detached, except the skips of its `context_BCHW`. Needs `inputs_NCHW`.
        """
        self._check(labels_BTHW, skip_policy)
        n_clips, n_steps = labels_BTHW.shape[0], labels_BTHW.shape[1] - 1
        labels_TBHW = labels_BTHW.transpose(0, 1)
        frames_NCHW = self.embed(labels_TBHW.flatten(0, 1))
        ahead = 1
        if inputs_NCHW is not None:
            frames_NCHW = torch.cat([inputs_NCHW, frames_NCHW[n_clips:]])
            ahead = n_steps

        # The published loop encodes frames t-1 and t at each step t.
        encoder_calls = [frame for t in range(n_steps) for frame in (t, t + ahead)]
        before = slice(n_steps * n_clips)
        after = slice(ahead * n_clips, (ahead + n_steps) * n_clips)
        if skip_policy == "latest":
            with_skips = before
        elif state is None:
            with_skips = slice(min(self.n_past, n_steps) * n_clips)
        else:
            encoder_calls.append(ahead + n_steps)
            with_skips = slice(after.stop, after.stop + n_clips)
            frames_NCHW = torch.cat([frames_NCHW, state.context_BCHW])
        latent_Nghw, skips = self.encoder(frames_NCHW, encoder_calls)

        old_posterior = state and state.posterior
        old_prior = state and state.prior
        old_predictor = state and state.predictor
        mu, logvar, _ = self.posterior(latent_Nghw[after], old_posterior, n_steps)
        prior_mu, prior_logvar, _ = self.prior(latent_Nghw[before], old_prior, n_steps)
        eps = torch.randn_like(mu) if eps_TBzhw is None else eps_TBzhw.flatten(0, 1)
        noise_Nzhw = sample_gaussian(mu, logvar, eps)
        predicted_Nghw, _ = self.predictor(latent_Nghw[before], noise_Nzhw, old_predictor, n_steps)

        terms = [
            torch.cat([term] + [term[-n_clips:]] * (n_steps - len(term) // n_clips))
            for term in self.decoder.skip_terms([skip[with_skips] for skip in skips])
        ]
        scores_NCHW = self.decoder(predicted_Nghw, terms, range(n_steps))

        scores_TBCHW = scores_NCHW.unflatten(0, (n_steps, n_clips))
        kl_N = gaussian_kl(mu, logvar, prior_mu, prior_logvar)
        return TrainingPass(
            nll_T=self.reconstruction_loss(scores_TBCHW, labels_TBHW[1:]),
            kl_T=kl_N.unflatten(0, (n_steps, n_clips)).mean(1),
            scores_TBCHW=scores_TBCHW,
        )

    def seeded_noise(
        self, seeds: Sequence[int], n_context: int, n_samples: int
    ) -> Iterator[Tensor]:
        """Noise for `rollout` that depends only on each clip's seed."""
        like = self.predictor.embed.weight
        return rollout_noise(seeds, n_context, n_samples, self.noise_shape, like)

    @torch.no_grad()
    def rollout(
        self,
        context_BTHW: Tensor,
        horizon: int,
        n_samples: int,
        skip_policy: SkipPolicy,
        noise: Iterator[Tensor],
    ) -> Iterator[Tensor]:
        """Roll-out: sample S futures of B clips, one frame of all B * S futures at a time.

        The context is encoded once per clip; memory is constant in the horizon. With batch norm
        the model must be in eval mode.

        Args:
            context_BTHW: uint8 true frames (B, T, H, W), T >= 1 (the published models: n_past).
            horizon: number of frames to generate.
            n_samples: S, futures per clip.
            skip_policy: skips of the last context frame (`frozen`) or of the newest frame,
                generated or not (`latest`).
            noise: yields T-1 standard-normal tensors (B, z, h, w) for the context's posterior, then
                one (B, S, z, h, w) per generated frame (see `seeded_noise`).

        Yields:
            uint8 label ids (B, S, H, W) of the next frame.
        """
        self._check(context_BTHW, skip_policy)
        n_clips, n_context = context_BTHW.shape[:2]
        frames_NCHW = self.embed(context_BTHW.transpose(0, 1).flatten(0, 1))
        latent_Nghw, skips = self.encoder(frames_NCHW)

        prior_state: State | None = None
        predictor_states: list[State] | None = None
        if n_context > 1:
            n_steps = n_context - 1
            before_Nghw, after_Nghw = latent_Nghw[:-n_clips], latent_Nghw[n_clips:]
            mu, logvar, _ = self.posterior(after_Nghw, None, n_steps)
            eps = torch.cat([next(noise) for _ in range(n_steps)])
            _, prior_state = self.prior.advance(before_Nghw, None, n_steps)
            _, predictor_states = self.predictor.advance(
                before_Nghw, sample_gaussian(mu, logvar, eps), None, n_steps
            )
            prior_state = _repeat_state(prior_state, n_samples)
            predictor_states = [_repeat_state(state, n_samples) for state in predictor_states]

        # From here on N = B * S, clip-major.
        terms = self.decoder.skip_terms([skip[-n_clips:] for skip in skips])
        terms = [term.repeat_interleave(n_samples, 0) for term in terms]
        latent_Nghw = latent_Nghw[-n_clips:].repeat_interleave(n_samples, 0)
        for generated in range(1, horizon + 1):
            mu, logvar, prior_state = self.prior(latent_Nghw, prior_state)
            noise_Nzhw = sample_gaussian(mu, logvar, next(noise).flatten(0, 1))
            predicted_Nghw, predictor_states = self.predictor(
                latent_Nghw, noise_Nzhw, predictor_states
            )
            frame_NHW = self.output_frame(self.decoder(predicted_Nghw, terms))
            yield frame_NHW.unflatten(0, (n_clips, n_samples))
            if generated < horizon:
                latent_Nghw, skips = self.encoder(self.embed(frame_NHW))
                if skip_policy == "latest":
                    terms = self.decoder.skip_terms(skips)

    def output_frame(self, scores_NCHW: Tensor) -> Tensor:
        """Output frame: argmax labels (N, H, W) uint8, which a roll-out yields and feeds back."""
        return scores_NCHW.argmax(1).to(torch.uint8)

    def reconstruction_loss(self, scores_TBCHW: Tensor, labels_TBHW: Tensor) -> Tensor:
        """Reconstruction loss (T,): `negative_log_likelihood`."""
        return negative_log_likelihood(scores_TBCHW, labels_TBHW)

    def embed(self, labels_NHW: Tensor) -> Tensor:
        """Encoder input: one-hot maps (N, C, H, W), channels-last, of label maps (N, H, W);
        `IGNORE` is all zeros.
        """
        classes = torch.arange(self.n_classes, dtype=torch.uint8, device=labels_NHW.device)
        one_hot_NHWC = labels_NHW[..., None] == classes
        return one_hot_NHWC.to(self.predictor.embed.weight.dtype).movedim(-1, 1)

    def _check(self, labels_BTHW: Tensor, skip_policy: str) -> None:
        if skip_policy not in ("frozen", "latest"):
            raise ConfigError(f"skip policy {skip_policy!r}: choose 'frozen' or 'latest'")
        if labels_BTHW.shape[2:] != self.size:
            found, expected = (
                "x".join(map(str, shape)) for shape in (labels_BTHW.shape[2:], self.size)
            )
            raise ConfigError(
                f"structure generator: label maps are {found} (H x W) but the model was built for "
                f"{expected}; set the dataset's size and the model's size to the same value"
            )


def _dirac_with_noise_(weight: Tensor, gain: float = 1.0, skip: int = 0) -> None:
    """Dirac (identity) initialisation of a convolution from input channel `skip` on, plus scaled
    random weights.
    """
    weight.mul_(_COPY_NOISE)
    weight[:, skip:] += gain * nn.init.dirac_(torch.empty_like(weight[:, skip:]))


def _repeat_state(state: State, n_samples: int) -> State:
    hidden, cell = state
    return hidden.repeat_interleave(n_samples, 0), cell.repeat_interleave(n_samples, 0)


def gaussian_kl(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> Tensor:
    """KL(N(mu, e^logvar) || N(prior_mu, e^prior_logvar)) (N,) of noise maps (N, z, h, w).

    In nats, at least float32: in half precision the differences of nearly equal numbers round to
    anything, also below zero.
    """
    mu, logvar = full_precision(mu), full_precision(logvar)
    prior_mu, prior_logvar = full_precision(prior_mu), full_precision(prior_logvar)
    kl_Nzhw = 0.5 * (
        prior_logvar
        - logvar
        + (torch.exp(logvar) + (mu - prior_mu) ** 2) * torch.exp(-prior_logvar)
        - 1.0
    )
    return kl_Nzhw.sum((1, 2, 3)).clamp(min=0.0)  # of equal distributions rounding may leave -1e-7


def negative_log_likelihood(
    scores_TBCHW: Tensor, labels_TBHW: Tensor, class_balance: float = 0.0
) -> Tensor:
    """Cross entropy (T,) in nats, mean over batch and labelled pixels of a frame; 0 without any.

    At least float32, whatever the scores are.

    With `class_balance` b, class-balanced: a pixel of a class that n pixels of its map have has
    weight n^-b, normalised to mean 1 per map; at 1 all classes of a map count the same.
    """
    n_frames, n_clips, n_classes = scores_TBCHW.shape[:3]
    # Scores are channels-last in memory: any other order would copy, forward and backward.
    scores_RC = full_precision(scores_TBCHW.movedim(2, -1).flatten(0, -2))
    targets_R = labels_TBHW.flatten().long()
    nll_R = F.cross_entropy(scores_RC, targets_R, ignore_index=IGNORE, reduction="none")
    if class_balance:
        targets_NP = targets_R.view(n_frames * n_clips, -1)
        weights_NP = _balanced_weights(targets_NP, n_classes, class_balance)
        nll_R = nll_R * weights_NP.flatten().to(nll_R.dtype)
    n_labelled_T = (labels_TBHW != IGNORE).sum((1, 2, 3)).clamp(min=1)
    return nll_R.view(n_frames, -1).sum(1) / n_labelled_T


def _balanced_weights(labels_NP: Tensor, n_classes: int, class_balance: float) -> Tensor:
    """Class-balancing weights (N, P) of P pixels; see `negative_log_likelihood`."""
    labels_NP = labels_NP.clamp(max=n_classes)  # the last is IGNORE
    sizes_NC = labels_NP.new_zeros(len(labels_NP), n_classes + 1)
    sizes_NC.scatter_add_(1, labels_NP, torch.ones_like(labels_NP))
    sizes_NC[:, -1] = 0
    weights_NC = sizes_NC.clamp(min=1).float() ** -class_balance
    totals_N1 = (weights_NC * sizes_NC).sum(1, keepdim=True).clamp(min=1)
    weights_NC *= sizes_NC.sum(1, keepdim=True) / totals_N1
    return weights_NC.gather(1, labels_NP)
