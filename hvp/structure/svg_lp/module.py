"""SVG-LP as a LightningModule: loss, optimizer, validation and roll-outs of `SVGLPNetwork`.

Shapes: B clips, T frames, S samples, H W image size.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from hvp.clips import ClipBatch, ClipId
from hvp.errors import ConfigError
from hvp.model import Chart, ClipFacts
from hvp.ranks import mean_over_ranks
from hvp.seeds import derive_seed
from hvp.structure.base import Reconstruction, StructureGenerator
from hvp.structure.svg_lp.free_running import free_run
from hvp.structure.svg_lp.network import (
    SkipPolicy,
    SVGLPNetwork,
    TrainingPass,
    negative_log_likelihood,
)
from hvp.structure.svg_lp.noise import batch_noise, clip_noise
from hvp.structure.svg_lp.reconstruction import reconstruct_stream
from hvp.structure.svg_lp.recurrent import ConvLSTMCell
from hvp.structure.svg_lp.settings import check_settings


class SVGLP(StructureGenerator):
    """SVG-LP on label maps, as a LightningModule around `SVGLPNetwork`."""

    prediction_options = ("rollout_skip",)
    charts = (
        Chart("loss", ("train/loss", "val/loss"), log_scale=True),
        Chart("reconstruction", ("train/nll", "val/nll")),
        Chart("KL", ("train/kl", "val/kl")),
    )

    error_name = "nll"
    """Name of the reconstruction loss in logs."""

    def __init__(
        self,
        network: SVGLPNetwork,
        lr: float,
        betas: tuple[float, float],
        beta: float,
        train_skip: SkipPolicy,
        rollout_skip: SkipPolicy,
        scheduler: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
        free_running: float = 0.0,
        free_running_after: float = 0.0,
        window: int | None = None,
        class_balance: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Network and training settings.

        Args:
            network: the network.
            lr: Adam's learning rate.
            betas: Adam's moment decays.
            beta: weight of the KL term.
            train_skip: skip policy of training and validation.
            rollout_skip: skip policy of sampled futures.
            scheduler: factory of the learning-rate schedule, stepped after every training step;
                None keeps the rate constant, as published.
            free_running: scheduled sampling: probability that a training batch uses the model's own
                frames beyond the context (`free_running.free_run`); 0 is teacher forcing, as
                published.
            free_running_after: share of the training steps before the first such batch.
            window: train each batch on at most this many frames behind the context, anywhere in the
                clip; a free-running window continues the roll-out from the start of the clip,
                without gradient through it. None uses the whole clip, as published.
            class_balance: class balancing of the loss, from 0 (plain likelihood, as published) to 1
                (all classes of a map have the same weight); see
                `hvp.structure.svg_lp.network.negative_log_likelihood`.
            seed: seed of the posterior's noise in training.

        Raises:
            ConfigError: a skip policy is neither `frozen` nor `latest`, `free_running` is no
                probability, `free_running_after` is no share, `window` is below 1, or
                `class_balance` is not within 0..1.
        """
        super().__init__()
        for key, policy in (("train_skip", train_skip), ("rollout_skip", rollout_skip)):
            if policy not in ("frozen", "latest"):
                raise ConfigError(f"{key} is {policy!r}; choose 'frozen' or 'latest'")
        if not 0 <= free_running <= 1:
            raise ConfigError(f"free_running is {free_running}; give a probability from 0 to 1")
        if not 0 <= free_running_after <= 1:
            raise ConfigError(
                f"free_running_after is {free_running_after}; give a share of the training, 0 to 1"
            )
        if window is not None and window < 1:
            raise ConfigError(f"window is {window}; give at least 1 frame, or null for all")
        if not 0 <= class_balance <= 1:
            raise ConfigError(f"class_balance is {class_balance}; give a number from 0 to 1")
        self.network = network
        self.n_past = network.n_past
        self.lr = lr
        self.betas = (betas[0], betas[1])
        self.beta = beta
        self.train_skip: SkipPolicy = train_skip
        self.rollout_skip: SkipPolicy = rollout_skip
        self.scheduler = scheduler
        self.free_running = free_running
        self.free_running_after = free_running_after
        self.window = window
        self.class_balance = class_balance
        self.seed = seed

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], clips: ClipFacts, key: str) -> None:
        """See `Model`."""
        check_settings(settings, clips, key)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Training loss of a batch; its noise depends only on seed, epoch and batch index.

        So it is the same after a resume, on any number of ranks, and whether or not the batch is
        free-running.
        """
        step_seed = derive_seed(self.seed, "training", self.current_epoch, batch_idx)
        eps_TBzhw = batch_noise(
            step_seed,
            batch.labels_BTHW.shape[1] - 1,
            len(batch),
            self.network.noise_shape,
            self._like(),
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        choice = random.Random(step_seed)
        window_BT, result = self._train_on(self.clips_of(batch), eps_TBzhw, choice)
        return self._log_losses("train", result, window_BT)

    def _train_on(
        self, clips_BT: Tensor, eps_TBzhw: Tensor, choice: random.Random
    ) -> tuple[Tensor, TrainingPass]:
        """Training pass over a random window, teacher-forced or free-running; returns both."""
        network, policy, n_past = self.network, self.train_skip, self.network.n_past
        free = choice.random() < self.free_running and self._free_running_has_begun()
        n_behind = clips_BT.shape[1] - n_past
        window = n_behind if self.window is None else min(self.window, n_behind)
        begin = choice.randint(0, n_behind - window)
        end = begin + n_past + window
        if free and begin:
            begin += n_past - 1  # its context is the recurrent state and the last context frame
        window_BT, window_eps = clips_BT[:, begin:end], eps_TBzhw[begin : end - 1]
        if not free:
            return window_BT, network.training_pass(window_BT, policy, window_eps)
        run = free_run(network, clips_BT[:, :end], policy, eps_TBzhw[: end - 1], begin)
        return window_BT, network.training_pass(
            window_BT, policy, window_eps, run.inputs_NCHW, run.state
        )

    def _free_running_has_begun(self) -> bool:
        share = self.free_running_after
        # Without a step limit the number of steps is infinite.
        return share == 0 or self.global_step >= share * self.trainer.estimated_stepping_batches

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Validation loss of a batch; its noise depends only on the clips."""
        seeds = [derive_seed("validation", str(identity)) for identity in batch.ids]
        eps_TBzhw = clip_noise(
            seeds, batch.labels_BTHW.shape[1] - 1, self.network.noise_shape, self._like()
        )
        result = self.network.training_pass(self.clips_of(batch), self.train_skip, eps_TBzhw)
        return self._log_losses("val", result, self.clips_of(batch))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam over all five networks, and its learning-rate schedule."""
        adam = torch.optim.Adam(self.network.parameters(), lr=self.lr, betas=self.betas)
        if self.scheduler is None:
            return adam
        scheduler = self.scheduler
        arguments = getattr(scheduler, "keywords", {})
        if "total_steps" in arguments and arguments["total_steps"] is None:
            scheduler = partial(_schedule_of_length, self.scheduler, self._training_steps())
        return {
            "optimizer": adam,
            "lr_scheduler": {"scheduler": scheduler(adam), "interval": "step"},
        }

    def _training_steps(self) -> int:
        """Number of optimizer steps of the whole training."""
        steps = self.trainer.estimated_stepping_batches
        # Lightning may have made the training dataloader to count them, before the position in it
        # is restored from a checkpoint: have it made again when training begins.
        self.trainer.fit_loop._combined_loader = None
        if not math.isfinite(steps):
            raise ConfigError(
                "trainer.max_steps and trainer.max_epochs are without a limit, but the schedule of "
                "the learning rate ends with the training; set one of them"
            )
        return int(steps)

    def stream_futures(
        self, batch: ClipBatch, horizon: int, n_samples: int, seed: int
    ) -> Iterator[Tensor]:
        """Roll-out: sample futures frame by frame, in constant memory.

        The first `n_past` frames of each clip are the context. The noise of a clip depends only on
        `seed` and its `ClipId`, so a clip has the same futures in any batch.

        Yields:
            uint8 label ids (B, S, H, W): `horizon` generated frames, on the batch's device.
        """
        seeds = [derive_seed(seed, str(identity)) for identity in batch.ids]
        network = self.network
        noise = network.seeded_noise(seeds, network.n_past, n_samples)
        context_BTHW = self.clips_of(batch)[:, : network.n_past]
        was_training = network.training
        network.eval()
        try:
            yield from network.rollout(context_BTHW, horizon, n_samples, self.rollout_skip, noise)
        finally:
            network.train(was_training)

    def stream_reconstruction(
        self, labels: Iterable[Tensor], identity: ClipId, seed: int
    ) -> Iterator[Reconstruction]:
        """Posterior reconstruction of frames 1, 2, ... of one clip, under teacher forcing.

        Args:
            labels: true uint8 label maps (H, W), in order.
            identity: the clip; its noise depends on `seed` and this only.
            seed: seed of the noise.
        """
        network, device = self.network, self._like().device
        own_seed = derive_seed("reconstruction", derive_seed(seed, str(identity)))
        noise = (n[:, 0] for n in network.seeded_noise([own_seed], n_context=1, n_samples=1))
        network.eval()
        batches = (frame[None].to(device) for frame in labels)
        yield from reconstruct_stream(network, batches, self.rollout_skip, noise)

    def sharded_blocks(self) -> Mapping[nn.Module, Sequence[str]]:
        """FSDP blocks: encoder, decoder levels and ConvLSTM cells, which hold most weights."""
        network = self.network
        cells = [m for m in network.modules() if isinstance(m, ConvLSTMCell)]
        return {
            network.encoder: (),
            **dict.fromkeys(network.decoder.levels, ("skip_term",)),
            **dict.fromkeys(cells, ()),
        }

    def _like(self) -> Tensor:
        return self.network.predictor.embed.weight

    def _loss(self, result: TrainingPass, clips_BT: Tensor) -> Tensor:
        """Training loss; logs keep the plain likelihood of the pass."""
        if not self.class_balance:
            return result.loss(self.beta)
        truth_TBHW = clips_BT.transpose(0, 1)[1:]
        error_T = negative_log_likelihood(result.scores_TBCHW, truth_TBHW, self.class_balance)
        return result.loss(self.beta, error_T)

    def _log_losses(self, stage: str, result: TrainingPass, clips_BT: Tensor) -> Tensor:
        # The published logs divide by the clip's length T, not by its T-1 predicted frames.
        length = clips_BT.shape[1]
        loss = self._loss(result, clips_BT)
        values = {
            f"{stage}/loss": loss.detach(),
            f"{stage}/{self.error_name}": result.nll_T.detach().sum() / length,
            f"{stage}/kl": result.kl_T.detach().sum() / length,
        }
        self.log_dict(
            mean_over_ranks(values) if stage == "train" else values,
            batch_size=len(clips_BT),
            prog_bar=stage == "train",
            sync_dist=stage == "val",
        )
        return loss


def _schedule_of_length(
    scheduler: Callable[..., LRScheduler], total_steps: int, optimizer: torch.optim.Optimizer
) -> LRScheduler:
    """Learning-rate schedule that ends with the training.

    OneCycleLR divides by the length of its phases, and for some lengths one of them is 0: then the
    schedule is one step longer than the training.
    """
    try:
        return scheduler(optimizer, total_steps=total_steps)
    except ZeroDivisionError:
        return scheduler(optimizer, total_steps=total_steps + 1)
