"""Structure generator: base class of the models of stage one, which predict future label maps.

A baseline that predicts RGB instead sets `channel = "frames"`.

Shapes: B clips, T frames, S samples, H height, W width; a frame is (H, W) labels or (3, H, W) RGB.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from hvp.clips import Channel, ClipBatch, ClipId
from hvp.labels import LabelSpace
from hvp.metrics.segmentation import HorizonIoU
from hvp.model import Model
from hvp.preview import ClipPreview, Column, HorizonScores, Preview


class StructureGenerator(Model):
    """Base class of structure generators: sample futures given `n_past` context frames."""

    channel: ClassVar[Channel] = "labels"
    """Channel that it predicts: `labels`, or `frames` for RGB."""

    preview_scores: ClassVar[Sequence[str]] = ("miou", "pixel_accuracy")

    n_past: int
    """Number of context frames."""

    @property
    def train_channels(self) -> Sequence[Channel]:
        """Channels that training reads: labels, and the predicted channel."""
        return ("labels",) if self.channel == "labels" else ("labels", self.channel)

    def clips_of(self, batch: ClipBatch) -> Tensor:
        """The predicted channel of a batch: uint8 (B, T, H, W) labels or (B, T, 3, H, W) RGB."""
        if self.channel == "labels":
            return batch.labels_BTHW
        assert batch.frames_BT3HW is not None
        return batch.frames_BT3HW

    @abstractmethod
    def stream_futures(
        self, batch: ClipBatch, horizon: int, n_samples: int, seed: int
    ) -> Iterator[Tensor]:
        """Roll-out: sample futures frame by frame, in memory constant in the horizon.

        The first `n_past` frames of each clip are the context; later ones are ignored. The futures
        of a clip depend on `seed` and its `ClipId` only, not on the batch it is in.

        Yields:
            uint8 frames (B, S, ...): `horizon` generated ones, on the batch's device.
        """

    @property
    def sampling(self) -> dict[str, Any]:
        """Values of the `prediction_options`, JSON, stored with the predictions."""
        return {name: getattr(self, name) for name in self.prediction_options}

    @torch.no_grad()
    def sample_futures(self, batch: ClipBatch, horizon: int, n_samples: int, seed: int) -> Tensor:
        """Roll-out with its context, uint8 (B, S, n_past + horizon, ...), on the CPU.

        All frames are in memory: for short horizons; see `stream_futures` for long ones.
        """
        context_BT = self.clips_of(batch)[:, : self.n_past].cpu()
        context_BST = context_BT[:, None].expand(-1, n_samples, *context_BT.shape[1:])
        frames = [f.cpu() for f in self.stream_futures(batch, horizon, n_samples, seed)]
        return torch.cat([context_BST, torch.stack(frames, dim=2)], dim=2)

    def preview(self, batch: ClipBatch, space: LabelSpace, n_samples: int, seed: int) -> Preview:
        """Validation preview: sampled futures, ground truth; mIoU and pixel accuracy of labels."""
        truth_BT = self.clips_of(batch).cpu()
        horizon = truth_BT.shape[1] - self.n_past
        samples_BST = self.sample_futures(batch, horizon, n_samples, seed)
        if self.channel == "labels":
            return _label_preview(batch.ids, truth_BT, samples_BST, space, self.n_past)
        best = [0] * len(truth_BT)
        clips = _clip_previews(batch.ids, truth_BT, samples_BST, best, self.channel)
        return Preview(clips, self.n_past)


class Reconstruction(NamedTuple):
    """Posterior reconstruction of one frame (teacher forcing, noise from the posterior)."""

    labels_BHW: Tensor
    """Most likely labels, uint8 (B, H, W)."""
    nll_B: Tensor
    """Negative log-likelihood (B,) of the true labels: nats, mean over labelled pixels."""
    kl_B: Tensor
    """KL(posterior || prior) (B,): nats, sum over the noise map."""


@runtime_checkable
class Reconstructs(Protocol):
    """Structure generator with a posterior, for reconstruction, NLL and KL in the evaluation."""

    def stream_reconstruction(
        self, labels: Iterable[Tensor], identity: ClipId, seed: int
    ) -> Iterator[Reconstruction]:
        """Posterior reconstruction of frames 1, 2, ... of one clip, under teacher forcing.

        Args:
            labels: true uint8 label maps (H, W), in order.
            identity: the clip; its noise depends on `seed` and this only.
            seed: seed of the noise.
        """
        ...


def _label_preview(
    ids: Sequence[ClipId], truth_BTHW: Tensor, samples_BSTHW: Tensor, space: LabelSpace, n_past: int
) -> Preview:
    """Preview of label maps with mIoU and pixel accuracy, mean and best of S."""
    n_samples = samples_BSTHW.shape[1]
    metric = HorizonIoU(space.n_classes, truth_BTHW.shape[1] - n_past, sync_on_compute=False)
    best = []
    for samples_STHW, truth_THW in zip(samples_BSTHW, truth_BTHW, strict=True):
        metric.update(samples_STHW[:, n_past:], truth_THW[n_past:])
        assert metric.last_clip is not None
        best.append(metric.last_clip.best[0])
    scores = metric.compute()
    horizon = {
        name: HorizonScores(
            title, {f"mean of {n_samples}": curve.mean, f"best of {n_samples}": curve.best}
        )
        for name, title, curve in (
            ("miou", "mIoU", scores.miou),
            ("pixel_accuracy", "pixel accuracy", scores.pixel_accuracy),
        )
    }
    scalars = {
        "miou": float(scores.miou.mean.mean()),
        "miou_best": float(scores.miou.best.mean()),
        "pixel_accuracy": float(scores.pixel_accuracy.mean.mean()),
    }
    clips = _clip_previews(ids, truth_BTHW, samples_BSTHW, best, "labels")
    return Preview(clips, n_past, scalars, horizon, metric.confusion.numpy())


def _clip_previews(
    ids: Sequence[ClipId],
    truth_BT: Tensor,
    samples_BST: Tensor,
    best: Sequence[int],
    channel: Channel,
    others: int = 2,
) -> tuple[ClipPreview, ...]:
    """Columns of each clip: ground truth, best sample, then `others` more samples."""

    def column(title: str, frames_T: Tensor) -> Column:
        if channel == "labels":
            return Column(title, labels_THW=frames_T.numpy())
        return Column(title, frames_THW3=frames_T.movedim(1, -1).numpy())

    clips = []
    for identity, truth_T, samples_ST, first in zip(ids, truth_BT, samples_BST, best, strict=True):
        rest = [sample for sample in range(len(samples_ST)) if sample != first][:others]
        titles = {first: f"best sample (no. {first + 1})"}
        columns = [column("ground truth", truth_T)]
        for sample in (first, *rest):
            title = titles.get(sample, f"sample no. {sample + 1}")
            columns.append(column(title, samples_ST[sample]))
        clips.append(ClipPreview(str(identity), tuple(columns)))
    return tuple(clips)
