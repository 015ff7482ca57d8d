"""Image generator: base class of the models of stage two, which translate label maps to RGB.

Shapes: N videos in a batch, B clips, T frames, H height, W width.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from hvp.clips import Channel, ClipBatch
from hvp.labels import LabelSpace
from hvp.model import Model
from hvp.preview import ClipPreview, Column, Preview


class ImageGenerator(Model):
    """Base class of image generators: translate label maps to RGB, autoregressively by frame."""

    n_given: int
    """Number of true RGB context frames that a translation needs; 0 for none."""

    @property
    def train_channels(self) -> Sequence[Channel]:
        """Channels that training reads: labels and RGB; models that train on `flow` add it."""
        return ("labels", "frames")

    @abstractmethod
    def translate(
        self,
        labels: Iterable[Tensor],
        context_labels_NTHW: Tensor,
        context_frames_NT3HW: Tensor,
        seeds: Sequence[int],
    ) -> Iterator[Tensor]:
        """Translation: generate one RGB frame per label map, in memory constant in their number.

        Args:
            labels: uint8 label maps (N, H, W), one per frame to generate, in order.
            context_labels_NTHW: uint8 label maps of the T frames before them.
            context_frames_NT3HW: uint8 true RGB frames of the same T >= `n_given` frames.
            seeds: one seed per video, for stochastic models; a video depends on its own seed only.

        Yields:
            uint8 RGB (N, 3, H, W) on the CPU.

        Raises:
            DataError: fewer than `n_given` context frames.
        """

    def preview(self, batch: ClipBatch, space: LabelSpace, n_samples: int, seed: int) -> Preview:
        """Validation preview: translation of the true label maps, and ground truth."""
        assert batch.frames_BT3HW is not None
        n_context = max(self.n_given, 1)
        was_training = self.training
        future = self.translate(
            batch.labels_BTHW[:, n_context:].unbind(1),
            batch.labels_BTHW[:, :n_context],
            batch.frames_BT3HW[:, :n_context],
            [seed] * len(batch),
        )
        context_BT3HW = batch.frames_BT3HW[:, :n_context].cpu()
        made_BT3HW = torch.stack([*context_BT3HW.unbind(1), *future], dim=1)
        self.train(was_training)

        def column(title: str, row: int, frames_BT3HW: Tensor) -> Column:
            labels_THW = batch.labels_BTHW[row].cpu().numpy()
            return Column(title, labels_THW, frames_BT3HW[row].cpu().movedim(1, -1).numpy())

        return Preview(
            tuple(
                ClipPreview(
                    str(identity),
                    (
                        column("ground truth", row, batch.frames_BT3HW),
                        column("translated", row, made_BT3HW),
                    ),
                )
                for row, identity in enumerate(batch.ids)
            ),
            n_context,
        )
