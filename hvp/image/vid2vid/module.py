"""vid2vid as a LightningModule: GAN training with manual optimization, validation, translation.

A training clip is generated in chunks of `n_frames_load` frames; after each chunk the generator and
then all discriminators take one optimizer step, both on losses of the same forward pass.

Shapes: B batch, T time, N frames of a chunk, C classes, H W size. A clip starts with the K-1 given
frames (K = `n_frames_G` of the generator): frame i of the generated video is frame i+K-1 of the
clip.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from hvp.clips import Channel, ClipBatch
from hvp.errors import ConfigError, DataError
from hvp.flow.teachers import FlowTeacher
from hvp.image.base import ImageGenerator
from hvp.image.vid2vid.discriminators import ImageDiscriminator, TemporalDiscriminators
from hvp.image.vid2vid.losses import (
    Objective,
    Terms,
    VGG19Perceptual,
    discriminator_loss,
    generator_loss,
    loss_inputs,
)
from hvp.image.vid2vid.schedule import SequenceSchedule, linear_decay
from hvp.image.vid2vid.sequence import SequenceGenerator, normalise, one_hot, temporal_groups
from hvp.image.vid2vid.settings import check_settings
from hvp.image.vid2vid.translate import translate
from hvp.log import say
from hvp.model import Chart, ClipFacts
from hvp.precision import full_precision
from hvp.ranks import mean_over_ranks

_NO_LIMIT = 10**9
"""Stands for an unlimited number of epochs."""


def _skip_step_count() -> None:
    """Replaces the hooks by which Lightning counts the steps of an optimizer."""


class Vid2Vid(ImageGenerator):
    """vid2vid image generator (Wang et al. 2018) with its losses, optimizers and schedules.

    Args:
        generator: label maps and previous frames to frames.
        image_discriminator, temporal_discriminators, lambda_feat, lambda_F, lambda_T: see
            `Objective`.
        perceptual: factory of the VGG19 perceptual loss; None leaves it out.
        flow_teacher: factory of the `FlowTeacher` that gives the reference flow in training.
        lr, betas: of Adam.
        ttur: two time-scale update rule (Heusel et al. 2017): generator `lr / 2`, discriminators
            `lr * 2`, both with `ttur_betas`.
        n_epochs: epochs at the full learning rate (published name `niter`).
        n_epochs_decay: epochs of linear decay to zero after them (`niter_decay`).
        n_epochs_step: epochs between doublings of the training sequence (`niter_step`).
        n_frames_total: frames to generate per training clip in the first epochs.
        n_frames_max: longest training clip, given frames included.
        n_frames_load: frames per chunk, that is per optimizer step.
        n_frames_bp: previous frames are detached before every n-th frame of a chunk (truncated
            backpropagation through time).
    """

    manual_optimization = True
    trainer_options = {"reload_dataloaders_every_n_epochs": 1}  # training clips grow
    training_parts = ("objective.",)
    charts = (
        Chart("generator", ("train/generator",)),
        Chart("discriminators", ("train/discriminators",)),
        Chart("validation PSNR", ("val/psnr",)),
        Chart("validation L1", ("val/l1",)),
        Chart("frames per training clip", ("train/n_frames",)),
        Chart("learning rates", ("train/lr_generator", "train/lr_discriminators")),
    )

    def __init__(
        self,
        generator: SequenceGenerator,
        image_discriminator: ImageDiscriminator,
        temporal_discriminators: TemporalDiscriminators | None,
        flow_teacher: Callable[[], FlowTeacher],
        perceptual: Callable[[], VGG19Perceptual] | None,
        lambda_feat: float,
        lambda_F: float,
        lambda_T: float,
        lr: float,
        betas: tuple[float, float],
        ttur: bool,
        ttur_betas: tuple[float, float],
        n_epochs: int,
        n_epochs_decay: int,
        n_epochs_step: int,
        n_frames_total: int,
        n_frames_max: int,
        n_frames_load: int,
        n_frames_bp: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.objective = Objective(
            image_discriminator,
            temporal_discriminators,
            lambda_feat,
            lambda_F,
            lambda_T,
        )
        self.n_given = generator.n_frames_G - 1
        self._make_flow_teacher = flow_teacher
        self._make_perceptual = perceptual
        self.lr = lr
        self.betas = betas
        self.ttur = ttur
        self.ttur_betas = ttur_betas
        self.n_epochs = n_epochs
        self.n_epochs_decay = n_epochs_decay
        self.n_frames_bp = n_frames_bp
        self.schedule = SequenceSchedule(
            n_given=generator.n_frames_G - 1,
            n_frames_total=n_frames_total,
            n_frames_max=n_frames_max,
            n_frames_load=n_frames_load,
            n_epochs_step=n_epochs_step,
        )

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], clips: ClipFacts, key: str) -> None:
        """See `Model`."""
        check_settings(settings, clips, key)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """Two Adams, generator and discriminators, with linear decay (stepped per epoch here)."""
        lr_generator, lr_discriminator, betas = self.lr, self.lr, self.betas
        if self.ttur:
            lr_generator, lr_discriminator, betas = self.lr / 2, self.lr * 2, self.ttur_betas
        optimizers: list[Optimizer] = [
            Adam(self.generator.parameters(), lr_generator, (betas[0], betas[1])),
            Adam(self.objective.parameters(), lr_discriminator, (betas[0], betas[1])),
        ]
        decay = linear_decay(self.n_epochs, self.n_epochs_decay)
        return optimizers, [LambdaLR(optimizer, decay) for optimizer in optimizers]

    @cached_property
    def flow_teacher(self) -> FlowTeacher:
        """Flow teacher, built (its weights loaded) when training first needs it."""
        return self._make_flow_teacher()

    @property
    def train_channels(self) -> Sequence[Channel]:
        """Channels that training reads: labels, RGB, and `flow` for the ground-truth teacher."""
        channels: tuple[Channel, ...] = ("labels", "frames")
        return (*channels, "flow") if self.flow_teacher.needs_exact_flow else channels

    def prepare_training(self) -> None:
        """Load the frozen networks: VGG19 and flow teacher."""
        if self._make_perceptual is not None and self.objective.perceptual is None:
            self.objective.perceptual = self._make_perceptual()
        _ = self.flow_teacher

    def setup(self, stage: str) -> None:
        """Lightning hook: load the frozen networks before `fit`."""
        if stage == "fit":
            self.prepare_training()

    def translate(
        self,
        labels: Iterable[Tensor],
        context_labels_NTHW: Tensor,
        context_frames_NT3HW: Tensor,
        seeds: Sequence[int],
    ) -> Iterator[Tensor]:
        """Translation, see `ImageGenerator`; deterministic."""
        yield from translate(self.generator, labels, context_labels_NTHW, context_frames_NT3HW)

    # -- training ---------------------------------------------------------------------------

    def training_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Generate the clip in chunks; one step of generator and discriminators per chunk."""
        labels_BTCHW, real_BT3HW = self._inputs(batch)
        n_given, synthesise_first = self.schedule.n_given, self.generator.synthesise_first
        n_load = self.schedule.chunk(labels_BTCHW.shape[1] - n_given)
        n_frames = (labels_BTCHW.shape[1] - n_given) // n_load * n_load
        reference = self.flow_teacher(
            real_BT3HW, batch.flow_BT2HW, range(n_given, n_given + n_frames), gap=1
        )
        history = self.generator.start(real_BT3HW[:, :n_given])
        fake_BN3HW = real_BT3HW[:, :0]  # frames so far; all but the newest chunk detached
        for first in range(0, n_frames, n_load):
            generated = self.generator(
                labels_BTCHW[:, first : first + n_load + n_given],
                history,
                self.n_frames_bp,
                n_raw_only=n_load if synthesise_first and first == 0 else 0,
            )
            history = generated.history
            before = fake_BN3HW[:, -1:] if first else real_BT3HW[:, n_given - 1 : n_given]
            fake_BN3HW = torch.cat([fake_BN3HW, generated.fake_BN3HW], dim=1)
            frames = loss_inputs(
                generated, before, labels_BTCHW, real_BT3HW, reference, first, n_given
            )
            terms = self.objective.frame_terms(
                frames, self.generator.n_scales_spatial, synthesise_first
            )
            terms |= self._temporal_terms(batch, real_BT3HW, fake_BN3HW, reference[0], first)
            self._step(terms)
            fake_BN3HW = fake_BN3HW.detach()
        self._log_training(terms, n_frames, batch_size=len(batch))

    def _temporal_terms(
        self,
        batch: ClipBatch,
        real_BT3HW: Tensor,
        fake_BN3HW: Tensor,
        reference_BN2HW: Tensor,
        first: int,
    ) -> Terms:
        """Loss terms of the temporal scales with enough frames, for the chunk from `first` on."""
        discriminators = self.objective.temporal_discriminators
        terms: Terms = {}
        if discriminators is None:
            return terms
        n_given = self.schedule.n_given
        for scale in range(len(discriminators.scales)):
            groups = temporal_groups(first, fake_BN3HW.shape[1], scale, discriminators.n_frames_D)
            if not groups:
                continue
            # Overlapping groups share pairs of frames: flow is estimated once per pair.
            targets = sorted({t for group in groups for t in group[1:]})
            if scale == 0:
                flow_BE2HW = reference_BN2HW[:, targets]
            else:
                flow_BE2HW, _ = self.flow_teacher(
                    real_BT3HW,
                    batch.flow_BT2HW,
                    [t + n_given for t in targets],
                    gap=discriminators.n_frames_D**scale,
                )
            pairs = [[targets.index(t) for t in group[1:]] for group in groups]
            picked = torch.tensor(groups)
            terms |= self.objective.temporal_terms(
                scale,
                real_BT3HW[:, picked + n_given].flatten(0, 1),
                fake_BN3HW[:, picked].flatten(0, 1),
                flow_BE2HW[:, torch.tensor(pairs)].flatten(0, 1),
            )
        return terms

    def _step(self, terms: Terms) -> None:
        """Optimizer step of the generator, then of the discriminators."""
        losses = (generator_loss(terms), discriminator_loss(terms))
        generator, discriminators = self._optimizers()
        # Count one step per chunk in the Trainer (max_steps, loggers), not one per optimizer.
        discriminators._on_before_step = discriminators._on_after_step = _skip_step_count
        for optimizer, loss in zip((generator, discriminators), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _log_training(self, terms: Terms, n_frames: int, batch_size: int) -> None:
        """Log the loss terms of the last chunk, learning rates and clip length."""
        generator, discriminators = self._optimizers()
        terms = mean_over_ranks({name: value.detach() for name, value in terms.items()})
        values: dict[str, Tensor | float] = {f"train/{name}": v for name, v in terms.items()}
        values["train/lr_generator"] = generator.param_groups[0]["lr"]
        values["train/lr_discriminators"] = discriminators.param_groups[0]["lr"]
        values["train/n_frames"] = float(n_frames)
        self.log_dict(values, batch_size=batch_size)
        self.log("train/generator", generator_loss(terms), prog_bar=True)
        self.log("train/discriminators", discriminator_loss(terms), prog_bar=True)

    def _inputs(self, batch: ClipBatch) -> tuple[Tensor, Tensor]:
        """Inputs of a batch: one-hot labels (B, T, C, H, W), RGB in [-1, 1] (B, T, 3, H, W)."""
        if batch.frames_BT3HW is None:
            raise DataError(
                f"clip {batch.ids[0]}: has no RGB frames; stage=image needs them beside the labels"
            )
        n_frames = batch.labels_BTHW.shape[1]
        if n_frames <= self.schedule.n_given:
            raise DataError(
                f"clip {batch.ids[0]}: {n_frames} frames, of which the first "
                f"n_frames_G-1={self.schedule.n_given} are given; give longer clips"
            )
        dtype = next(self.generator.parameters()).dtype
        labels_BTCHW = one_hot(batch.labels_BTHW, self.generator.n_classes, dtype)
        return labels_BTCHW, normalise(batch.frames_BT3HW, dtype)

    # -- validation -------------------------------------------------------------------------

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Translate the true labels; log L1 (RGB in 0..1) and PSNR (dB)."""
        labels_BTCHW, real_BT3HW = self._inputs(batch)
        n_given = self.schedule.n_given
        generated = self.generator(
            labels_BTCHW,
            self.generator.start(real_BT3HW[:, :n_given]),
            self.n_frames_bp,
            n_raw_only=1 if self.generator.synthesise_first else 0,
        )
        fake_BN3HW = full_precision(generated.fake_BN3HW)
        assert batch.frames_BT3HW is not None
        real_BN3HW = normalise(batch.frames_BT3HW[:, n_given:], fake_BN3HW.dtype)
        difference = (fake_BN3HW - real_BN3HW) / 2
        mse = difference.square().mean().clamp_min(1e-10)
        size = len(batch)
        self.log("val/l1", difference.abs().mean(), batch_size=size, sync_dist=True, prog_bar=True)
        self.log("val/psnr", -10 * torch.log10(mse), batch_size=size, sync_dist=True)

    # -- schedules --------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Set the length of the first training clips; check that the Trainer reloads loaders."""
        if self._make_perceptual is None:
            say("perceptual loss (VGG19) is off: no weights given (perceptual: null)")
        if self.trainer.ckpt_path is None:  # else restored by the data module
            self._set_train_length(epoch=0)
        max_epochs = self.trainer.max_epochs
        last_epoch = max_epochs - 1 if max_epochs is not None and max_epochs > 0 else _NO_LIMIT
        grows = self.schedule.clip_length(last_epoch) > self.schedule.clip_length(0)
        reload = self.trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if self._datamodule is not None and grows and reload != 1:
            raise ConfigError(
                f"trainer.reload_dataloaders_every_n_epochs={reload}: training clips grow every "
                "n_epochs_step epochs, which needs 1"
            )

    def on_train_epoch_end(self) -> None:
        """Step the learning-rate schedules; set the clip length of the next epoch."""
        schedulers = self.lr_schedulers()
        assert isinstance(schedulers, list)
        for scheduler in schedulers:
            assert isinstance(scheduler, LRScheduler)
            scheduler.step()
        self._set_train_length(self.current_epoch + 1)

    @property
    def _datamodule(self) -> Any:
        return getattr(self.trainer, "datamodule", None)

    def _set_train_length(self, epoch: int) -> None:
        """Set `train_length` of the data module, at most its `longest_train_length`."""
        if self._datamodule is not None:
            longest = self._datamodule.longest_train_length
            self._datamodule.train_length = self.schedule.clip_length(epoch, longest)
