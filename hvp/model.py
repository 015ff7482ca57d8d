"""Base class of all models: a LightningModule plus what stages, callbacks and checks need.

The two kinds are `hvp.structure.base.StructureGenerator` and `hvp.image.base.ImageGenerator`.
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
    """Properties of a dataset's clips, for `Model.check_settings`."""

    space: LabelSpace
    """Classes of the label maps."""
    size: Size
    """Height and width of the clips."""
    n_past: int
    """Number of context frames."""
    n_future: int
    """Number of frames predicted in training."""
    exact_flow: bool = False
    """Whether the dataset knows how pixels move between the frames of a clip."""


class Chart(NamedTuple):
    """Dashboard chart of logged scalars."""

    title: str
    names: tuple[str, ...]
    """Names of the logged scalars: `("train/loss", "val/loss")`."""
    log_scale: bool = False


class Model(pl.LightningModule, ABC):
    """Abstract LightningModule of stages, callbacks and checks, which know no model by name."""

    charts: ClassVar[Sequence[Chart]] = (Chart("loss", ("train/loss", "val/loss")),)
    """Charts of its training on the W&B dashboard."""

    preview_scores: ClassVar[Sequence[str]] = ()
    """Scores of the validation preview: keys of `Preview.horizon` and `Preview.scalars`."""

    prediction_options: ClassVar[tuple[str, ...]] = ()
    """Keys of module settings that may change between training and prediction. A checkpoint holds
    all its settings; changing any other is an error."""

    trainer_options: ClassVar[Mapping[str, Any]] = {}
    """Trainer arguments that training needs, for example
    `{"reload_dataloaders_every_n_epochs": 1}`."""

    manual_optimization: ClassVar[bool] = False
    """Whether training steps its optimizers itself (Lightning's manual optimization): it can then
    neither be sharded, nor have its gradients clipped or accumulated by the Trainer."""

    training_parts: ClassVar[tuple[str, ...]] = ()
    """Prefixes of state_dict keys needed only in training (discriminators): may be missing."""

    @property
    @abstractmethod
    def train_channels(self) -> Sequence[Channel]:
        """Channels of the clips that training reads."""

    def prepare_training(self) -> None:
        """Load frozen networks that only training needs; called before data is prepared."""
        return

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], clips: ClipFacts, key: str) -> None:
        """Validate the settings before anything is built or data is prepared.

        Args:
            settings: settings of the module, plain values.
            clips: properties of the dataset.
            key: config key of the settings, for messages: `model.structure.module`.

        Raises:
            ConfigError: names the key, what was found, what is allowed and what to do.
        """
        return

    def sharded_blocks(self) -> Mapping[nn.Module, Sequence[str]]:
        """FSDP blocks: submodules to shard one by one with trainer=fsdp (units of all-gather).

        Returns:
            For each block, its methods other than `forward` that use its weights. Weights outside
            of all blocks form one more unit.
        """
        return {}

    @abstractmethod
    def preview(self, batch: ClipBatch, space: LabelSpace, n_samples: int, seed: int) -> Preview:
        """Validation preview of a few clips; must leave train/eval mode and gradients unchanged.

        Args:
            batch: whole clips, with RGB if training reads it.
            space: classes of the label maps.
            n_samples: sampled futures per clip, for stochastic models.
            seed: seed of the futures' noise.
        """
