"""The structure generator: teacher-forced training pass and free-running rollout.

A stochastic recurrent estimator over label maps (Lee et al., ICLR 2021, section 3.1; it extends
SVG-LP, Denton & Fergus 2018). The published loop runs one time step and one sample at a time and
encodes each frame twice. Here every frame is encoded once, all frames in one call, and all clips
and samples of a rollout form one batch; the numbers are the same (tests/structure/oracle.py).

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

COPY_SCORE = 2.0
"""Where a model begins as a copy, the score of the class that it repeats; the others' is minus
that. (For pixels, sigmoid(4x - 2) is nearly x.)"""
COPY_NOISE = 0.3
"""Share of their random weights that the layers which copy keep, to differ from each other."""

SkipPolicy = Literal["frozen", "latest"]
"""Whose skips the decoder sees beyond the context: the last context frame's, or the newest's."""


@dataclass(frozen=True)
class TrainingPass:
    """What one teacher-forced pass over T frames gives, for its T-1 predicted frames."""

    nll_T: Tensor
    """Negative log-likelihood (T-1,) of each frame: nats, mean over batch and labelled pixels."""
    kl_T: Tensor
    """KL(posterior || prior) (T-1,) of each step: nats, sum over z, h, w and mean over batch."""
    scores_TBCHW: Tensor
    """Unnormalised class scores (T-1, B, C, H, W)."""

    def loss(self, beta: float, error_T: Tensor | None = None) -> Tensor:
        """Sum over time of nll (or `error_T` in its place) + beta * KL; published: nll."""
        error_T = self.nll_T if error_T is None else error_T
        return (error_T + beta * self.kl_T).sum()

    def log_probs_TBCHW(self) -> Tensor:
        """Log-probability of every class (T-1, B, C, H, W)."""
        return F.log_softmax(self.scores_TBCHW, dim=2)


@dataclass(frozen=True)
class RecurrentState:
    """Recurrent state for a training pass that starts inside a clip."""

    posterior: State
    prior: State
    predictor: list[State]
    context_BCHW: Tensor
    """The last context frame, as `SVGLPNetwork.embed` gives it: `frozen` means its skips."""


class SVGLPNetwork(nn.Module):
    """Encoder, decoder, predictor, posterior and prior, and how they play together."""

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
            rnn_width: r, channels of the recurrent networks.
            batch_norm: batch norm in encoder and decoder (the published default has none).
            init_std: standard deviation of convolution weights (published: 0.02). None scales it
                by the fan-in (He et al. 2015): in networks much narrower than the published ones
                0.02 lets the signal die out between the layers. Also, as every step counts in short
                trainings, the model then begins by repeating the frame that its skips come from.

        Raises:
            ConfigError: the size has no published network, or `n_past` is below 1.
        """
        super().__init__()
        if n_past < 1:
            raise ConfigError(f"structure model: n_past is {n_past}; give at least 1 context frame")
        self.n_classes = n_classes
        self.size = tuple(size)
        self.n_past = n_past
        reduction = architecture(size).reduction
        self.noise_shape = (noise_width, self.size[0] // reduction, self.size[1] // reduction)
        """(z, h, w) of the noise of one step."""
        self.encoder = Encoder(n_classes, size, base_width, latent_width, batch_norm)
        self.decoder = Decoder(n_classes, size, base_width, latent_width, batch_norm)
        self.predictor = Predictor(latent_width, noise_width, rnn_width)
        self.posterior = GaussianConvLSTM(latent_width, noise_width, rnn_width)
        self.prior = GaussianConvLSTM(latent_width, noise_width, rnn_width)
        self._initialise(init_std)

    def _initialise(self, init_std: float | None) -> None:
        """Draw the weights of all convolutions but the ConvLSTM cells', which have their own."""
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
            self._begin_as_copy()
            # Both start at N(0, 1), as they nearly do with the published 0.02. Else the first thing
            # that training learns is to lower a large KL, and all latents die of it.
            for gaussian in (self.posterior, self.prior):
                nn.init.zeros_(gaussian.mu.weight)
                nn.init.zeros_(gaussian.logvar.weight)

    def _begin_as_copy(self) -> None:
        """Lead the input through the finest level's skip to the scores, nearly unchanged."""
        first = cast(Iterable[ConvBlock], self.encoder.levels[0])
        finest = cast(DecoderLevel, self.decoder.levels[-1])
        scores = self.decoder.classes
        with torch.no_grad():
            for block in first:
                _identity_beside_noise(block.conv.weight)
            for block in cast(Iterable[ConvBlock], finest.blocks):
                _identity_beside_noise(block.conv.weight, skip=finest.below)
            _identity_beside_noise(scores.weight, gain=2 * COPY_SCORE)
            cast(Tensor, scores.bias).fill_(-COPY_SCORE)

    def training_pass(
        self,
        labels_BTHW: Tensor,
        skip_policy: SkipPolicy,
        eps_TBzhw: Tensor | None = None,
        shown_NCHW: Tensor | None = None,
        state: RecurrentState | None = None,
    ) -> TrainingPass:
        """Predict each frame t = 1..T-1 from the true frames before it and the posterior's noise.

        Args:
            labels_BTHW: uint8 label ids (B, T, H, W), T >= 2; `IGNORE` pixels enter as all zeros
                and do not count in the likelihood.
            skip_policy: skips of frame t-1 (`latest`), or of frame min(t, n_past) - 1 (`frozen`).
            eps_TBzhw: standard-normal noise (T-1, B, z, h, w) of the posterior; by default drawn
                from torch's global generator.
            shown_NCHW: what the encoder sees of frames 0..T-2 in place of the true ones, which the
                posterior goes on seeing (`free_running.free_run`); None shows those (teacher
                forcing, as published).
            state: where the clip is the rest of a longer one: what came before its frame 0, which
                lies behind the context. No gradient flows into it, but into the skips of its
                `context_BCHW`. Needs `shown_NCHW`.
        """
        self._check(labels_BTHW, skip_policy)
        n_clips, n_steps = labels_BTHW.shape[0], labels_BTHW.shape[1] - 1
        labels_TBHW = labels_BTHW.transpose(0, 1)
        frames_NCHW = self.embed(labels_TBHW.flatten(0, 1))
        ahead = 1
        if shown_NCHW is not None:
            frames_NCHW = torch.cat([shown_NCHW, frames_NCHW[n_clips:]])
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
        kl_N = gaussian_kl(mu, logvar, prior_mu, prior_logvar).sum((1, 2, 3))
        return TrainingPass(
            nll_T=self.error(scores_TBCHW, labels_TBHW[1:]),
            kl_T=kl_N.unflatten(0, (n_steps, n_clips)).mean(1),
            scores_TBCHW=scores_TBCHW,
        )

    @torch.no_grad()
    def reconstruct(
        self,
        labels_BTHW: Tensor,
        skip_policy: SkipPolicy,
        eps_TBzhw: Tensor | None = None,
    ) -> Tensor:
        """Most likely labels (B, T-1, H, W) uint8 given the true past and the posterior's noise.

        The upper bound of what the rollout can reach; arguments as in `training_pass`.
        """
        result = self.training_pass(labels_BTHW, skip_policy, eps_TBzhw)
        return result.scores_TBCHW.argmax(2).to(torch.uint8).transpose(0, 1)

    def seeded_noise(
        self, seeds: Sequence[int], n_context: int, n_samples: int
    ) -> Iterator[Tensor]:
        """Noise for `rollout` that depends on each clip's seed and nothing else."""
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
        """Sample futures of B clips, one frame of all B * S futures at a time.

        The context is computed once per clip; memory does not grow with the horizon. The model
        must be in eval mode when it has batch norm.

        Args:
            context_BTHW: uint8 true frames (B, T, H, W), T >= 1 (the published models: n_past).
            horizon: number of frames to generate.
            n_samples: S, futures per clip.
            skip_policy: skips of the last context frame (`frozen`) or of the newest frame,
                generated or not (`latest`).
            noise: gives T-1 standard-normal tensors (B, z, h, w) for the context's posterior, then
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
            frame_NHW = self.emit(self.decoder(predicted_Nghw, terms))
            yield frame_NHW.unflatten(0, (n_clips, n_samples))
            if generated < horizon:
                latent_Nghw, skips = self.encoder(self.embed(frame_NHW))
                if skip_policy == "latest":
                    terms = self.decoder.skip_terms(skips)

    def emit(self, scores_NCHW: Tensor) -> Tensor:
        """The frame that a rollout gives and feeds back: most likely labels (N, H, W) uint8."""
        return scores_NCHW.argmax(1).to(torch.uint8)

    def error(self, scores_TBCHW: Tensor, labels_TBHW: Tensor) -> Tensor:
        """What training minimises beside the KL, (T,): `negative_log_likelihood`."""
        return negative_log_likelihood(scores_TBCHW, labels_TBHW)

    def embed(self, labels_NHW: Tensor) -> Tensor:
        """What the encoder sees of maps (N, H, W): one-hot maps (N, C, H, W), channels last in
        memory; `IGNORE` becomes all zeros.
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
                f"structure model: label maps are {found} (H x W) but the model was built for "
                f"{expected}; set the dataset's size and the model's size to the same value"
            )


def _identity_beside_noise(weight: Tensor, gain: float = 1.0, skip: int = 0) -> None:
    """Make a convolution pass on its input channels from `skip` on, as many as there are outputs,
    and keep a little of its random weights.
    """
    weight.mul_(COPY_NOISE)
    weight[:, skip:] += gain * nn.init.dirac_(torch.empty_like(weight[:, skip:]))


def _repeat_state(state: State, n_samples: int) -> State:
    hidden, cell = state
    return hidden.repeat_interleave(n_samples, 0), cell.repeat_interleave(n_samples, 0)


def gaussian_kl(mu: Tensor, logvar: Tensor, prior_mu: Tensor, prior_logvar: Tensor) -> Tensor:
    """Elementwise KL(N(mu, e^logvar) || N(prior_mu, e^prior_logvar)), in nats."""
    return 0.5 * (
        prior_logvar
        - logvar
        + (torch.exp(logvar) + (mu - prior_mu) ** 2) * torch.exp(-prior_logvar)
        - 1.0
    )


def negative_log_likelihood(
    scores_TBCHW: Tensor, labels_TBHW: Tensor, class_balance: float = 0.0
) -> Tensor:
    """Mean cross entropy (T,) of each frame over batch and labelled pixels; 0 where none is.

    With `class_balance` b it is a weighted mean: a pixel whose class n pixels of its map have
    weighs n^-b, over the mean weight of that map; at 1 all classes of a map count the same.
    """
    n_frames, n_clips, n_classes = scores_TBCHW.shape[:3]
    # Rows of classes: the scores lie channels last, and any other order costs copies both ways.
    scores_RC = scores_TBCHW.movedim(2, -1).flatten(0, -2)
    targets_R = labels_TBHW.flatten().long()
    nll_R = F.cross_entropy(scores_RC, targets_R, ignore_index=IGNORE, reduction="none")
    if class_balance:
        targets_NP = targets_R.view(n_frames * n_clips, -1)
        weights_NP = _balanced_weights(targets_NP, n_classes, class_balance)
        nll_R = nll_R * weights_NP.flatten().to(nll_R.dtype)
    n_labelled_T = (labels_TBHW != IGNORE).sum((1, 2, 3)).clamp(min=1)
    return nll_R.view(n_frames, -1).sum(1) / n_labelled_T


def _balanced_weights(labels_NP: Tensor, n_classes: int, class_balance: float) -> Tensor:
    """Weights (N, P) of the P pixels of maps; see `negative_log_likelihood`."""
    labels_NP = labels_NP.clamp(max=n_classes)  # the last is IGNORE
    sizes_NC = labels_NP.new_zeros(len(labels_NP), n_classes + 1)
    sizes_NC.scatter_add_(1, labels_NP, torch.ones_like(labels_NP))
    sizes_NC[:, -1] = 0
    weights_NC = sizes_NC.clamp(min=1).float() ** -class_balance
    totals_N1 = (weights_NC * sizes_NC).sum(1, keepdim=True).clamp(min=1)
    weights_NC *= sizes_NC.sum(1, keepdim=True) / totals_N1
    return weights_NC.gather(1, labels_NP)
