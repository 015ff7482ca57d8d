"""Base class of all models: what training asks of any of them, whatever it predicts.

The two kinds are `hvp.structure.base.StructureGenerator` and `hvp.image.base.ImageGenerator`; a
model is a LightningModule that says beside its losses and optimizers what stands here.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
from torch import nn

from hvp.clips import Channel, ClipBatch
from hvp.labels import LabelSpace, Size
from hvp.preview import Preview


class ClipFacts(NamedTuple):
    """What a dataset's clips are, for models to check their settings against."""

    space: LabelSpace
    """Classes of the label maps."""
    size: Size
    """Height and width of the clips."""
    n_past: int
    """Context frames."""
    n_future: int
    """Frames predicted in training."""
    exact_flow: bool = False
    """Whether the dataset knows how pixels move between the frames of a clip."""


class Chart(NamedTuple):
    """Scalars that belong into one chart of a dashboard."""

    title: str
    names: tuple[str, ...]
    """Under which the model logs them: `("train/loss", "val/loss")`."""
    log_scale: bool = False


class Model(pl.LightningModule, ABC):
    """What stages, callbacks and checks know of a model; none of them knows one by name."""

    charts: ClassVar[Sequence[Chart]] = (Chart("loss", ("train/loss", "val/loss")),)
    """What dashboards show of its training."""

    preview_scores: ClassVar[Sequence[str]] = ()
    """Scores of its preview along the horizon: keys of `Preview.horizon` and `Preview.scalars`."""

    prediction_options: ClassVar[tuple[str, ...]] = ()
    """Settings that may differ between training and prediction (keys of the module's settings):
    a checkpoint brings all its settings with it, and refuses that others are changed."""

    trainer_options: ClassVar[Mapping[str, Any]] = {}
    """Arguments of the Trainer that training needs, for example
    `{"reload_dataloaders_every_n_epochs": 1}`."""

    manual_optimization: ClassVar[bool] = False
    """Whether training steps its optimizers itself (Lightning's manual optimization): it can then
    neither be sharded, nor have its gradients clipped or accumulated by the Trainer."""

    training_parts: ClassVar[tuple[str, ...]] = ()
    """Prefixes of weights that only training needs: a checkpoint may lack them."""

    @property
    @abstractmethod
    def train_channels(self) -> Sequence[Channel]:
        """What training reads of the clips."""

    def prepare_training(self) -> None:
        """Load what only training needs (frozen networks); called before data is prepared."""
        return

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], clips: ClipFacts, key: str) -> None:
        """Check the settings before anything is built or prepared.

        Args:
            settings: the module's settings, plain values.
            clips: what the dataset gives.
            key: where they stand in the config, for messages: `model.structure.module`.

        Raises:
            ConfigError: names the key, what was found, what is allowed and what to do.
        """
        return

    def sharded_blocks(self) -> Mapping[nn.Module, Sequence[str]]:
        """Blocks to shard one by one with trainer=fsdp, so that only one is whole at a time.

        Returns:
            For each block the methods beside `forward` that use its weights. Weights outside of
            all blocks, or all where there are none, are one piece.
        """
        return {}

    @abstractmethod
    def preview(self, batch: ClipBatch, space: LabelSpace, n_samples: int, seed: int) -> Preview:
        """What the model makes of a few validation clips; leaves its mode and gradients alone.

        Args:
            batch: whole clips, with their RGB where training has it.
            space: classes of the label maps.
            n_samples: futures per clip, where there are several.
            seed: seed of the futures' noise.
        """
