"""Structure generator: base class of every model that predicts the future of label maps.

A baseline that predicts RGB in the same way says `channel = "frames"`.

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
    """Predicts futures of clips from their first `n_past` frames."""

    channel: ClassVar[Channel] = "labels"
    """What of a clip it predicts."""

    preview_scores: ClassVar[Sequence[str]] = ("miou", "pixel_accuracy")

    n_past: int
    """Context frames."""

    @property
    def train_channels(self) -> Sequence[Channel]:
        """Labels are always read; RGB where that is predicted."""
        return ("labels",) if self.channel == "labels" else ("labels", self.channel)

    def clips_of(self, batch: ClipBatch) -> Tensor:
        """What the model predicts of a batch: uint8 (B, T, H, W) labels or (B, T, 3, H, W) RGB."""
        if self.channel == "labels":
            return batch.labels_BTHW
        assert batch.frames_BT3HW is not None
        return batch.frames_BT3HW

    @abstractmethod
    def stream_futures(
        self, batch: ClipBatch, horizon: int, n_samples: int, seed: int
    ) -> Iterator[Tensor]:
        """Sample futures frame by frame, in memory that does not grow with the horizon.

        The first `n_past` frames of each clip are the context; what follows is not looked at. The
        futures of a clip depend on `seed` and its `ClipId` alone, not on the batch it is in.

        Yields:
            uint8 frames (B, S, ...): `horizon` generated ones, on the batch's device.
        """

    @property
    def sampling(self) -> dict[str, Any]:
        """The model's own options that its futures depend on, as JSON values."""
        return {name: getattr(self, name) for name in self.prediction_options}

    @torch.no_grad()
    def sample_futures(self, batch: ClipBatch, horizon: int, n_samples: int, seed: int) -> Tensor:
        """Context and sampled futures, uint8 (B, S, n_past + horizon, ...), on the CPU.

        All in memory at once: for short horizons, else see `stream_futures`.
        """
        context_BT = self.clips_of(batch)[:, : self.n_past].cpu()
        context_BST = context_BT[:, None].expand(-1, n_samples, *context_BT.shape[1:])
        frames = [f.cpu() for f in self.stream_futures(batch, horizon, n_samples, seed)]
        return torch.cat([context_BST, torch.stack(frames, dim=2)], dim=2)

    def preview(self, batch: ClipBatch, space: LabelSpace, n_samples: int, seed: int) -> Preview:
        """Sampled futures beside the truth; of label maps also mIoU and pixel accuracy."""
        truth_BT = self.clips_of(batch).cpu()
        horizon = truth_BT.shape[1] - self.n_past
        samples_BST = self.sample_futures(batch, horizon, n_samples, seed)
        if self.channel == "labels":
            return _scored(batch.ids, truth_BT, samples_BST, space, self.n_past)
        best = [0] * len(truth_BT)
        clips = _columns(batch.ids, truth_BT, samples_BST, best, self.channel)
        return Preview(clips, self.n_past)


class Reconstruction(NamedTuple):
    """One frame, predicted from the true frames before it and the posterior's noise."""

    labels_BHW: Tensor
    """uint8 most likely labels."""
    nll_B: Tensor
    """Negative log-likelihood of the true labels: nats, mean over labelled pixels."""
    kl_B: Tensor
    """KL(posterior || prior): nats, sum over the noise."""


@runtime_checkable
class Reconstructs(Protocol):
    """A structure generator with a posterior: it can say how likely the truth is."""

    def stream_reconstruction(
        self, labels: Iterable[Tensor], identity: ClipId, seed: int
    ) -> Iterator[Reconstruction]:
        """Predict frames 1, 2, ... of one clip from the true past and the posterior's noise.

        Args:
            labels: true uint8 label maps (H, W), in order.
            identity: the clip; its noise depends on `seed` and this alone.
            seed: seed of the noise.
        """
        ...


def _scored(
    ids: Sequence[ClipId], truth_BTHW: Tensor, samples_BSTHW: Tensor, space: LabelSpace, n_past: int
) -> Preview:
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
    clips = _columns(ids, truth_BTHW, samples_BSTHW, best, "labels")
    return Preview(clips, n_past, scalars, horizon, metric.confusion.numpy())


def _columns(
    ids: Sequence[ClipId],
    truth_BT: Tensor,
    samples_BST: Tensor,
    best: Sequence[int],
    channel: Channel,
    others: int = 2,
) -> tuple[ClipPreview, ...]:
    """The truth, the best sample and the first `others` of the rest, for each clip."""

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
