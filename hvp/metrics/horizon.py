"""Scores against the horizon: the mean over samples and the best of S, per predicted step.

Shapes: K metrics, S samples of one clip, T horizon (predicted steps), P steps of one piece.

Every horizon metric scores single frames. Its curve at step t is the mean over the clips that have
ground truth at step t; clips whose ground truth ends earlier count nothing there. Two curves come
out of the same scores:

- mean: each clip's score is the mean over its S samples;
- best: each clip's score is that of ONE sample per clip, the one with the best mean over the
  clip's steps (highest, or lowest where lower is better; the first of equals), so that the curve
  shows a future which exists. This is the best-of-S protocol of Denton & Fergus, "Stochastic Video
  Generation with a Learned Prior" (ICML 2018), section 5.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from hvp.errors import DataError


class HorizonCurve(NamedTuple):
    """One metric against the horizon; index 0 is the first predicted frame."""

    mean: np.ndarray
    """float64 (T,): mean over clips and samples; NaN where no clip has ground truth."""
    best: np.ndarray
    """float64 (T,): mean over clips of each clip's best sample; NaN likewise."""
    clips: np.ndarray
    """int64 (T,): number of clips with ground truth at that step."""


class ClipScores(NamedTuple):
    """The scores of the clip that was finished last, on this process only."""

    scores_KST: np.ndarray
    """float64 (K, S, steps with ground truth)."""
    best: tuple[int, ...]
    """For each metric, the sample that its best-of-S takes."""


def best_sample(scores_ST: np.ndarray) -> int:
    """Index of the sample with the highest mean over the steps; NaN steps count nothing.

    Example:
        >>> best_sample(np.array([[0.9, 0.1], [0.6, 0.6], [np.nan, 0.5]]))
        1
    """
    known_ST = ~np.isnan(scores_ST)
    sums_S = np.where(known_ST, scores_ST, 0.0).sum(axis=1)
    means_S = np.where(known_ST.any(axis=1), sums_S / known_ST.sum(axis=1).clip(min=1), -np.inf)
    return int(np.argmax(means_S))


class HorizonMetric(Metric):
    """Base of the metrics per predicted step; a subclass's `update` scores frames.

    `higher_is_better` says which sample of a clip is its best, for all K metrics.

    All states are sums over clips (float64 and int64), so that merging the states of several
    processes, each with its own clips, is adding them. A clip that comes in pieces needs `update`;
    `forward` would drop its first pieces.

    Args:
        names: the K metrics.
        horizon: number of predicted steps T.
        best_by: name of the metric that chooses each clip's best sample for all K metrics; None
            lets every metric choose its own.
        kwargs: passed to `torchmetrics.Metric`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    score_sums: Tensor
    best_sums: Tensor
    counts: Tensor

    def __init__(
        self, names: Sequence[str], horizon: int, best_by: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.names = tuple(names)
        self.horizon = horizon
        self.best_by = best_by
        self.last_clip: ClipScores | None = None
        self._partial: Tensor | None = (
            None  # scores (K, S, T) of the clip whose last piece is to come
        )
        self._n_partial = 0  # and how many of its steps are there
        shape = (len(self.names), horizon)
        sums_KT = torch.zeros(shape, dtype=torch.float64)
        self.add_state("score_sums", sums_KT.clone(), dist_reduce_fx="sum")
        self.add_state("best_sums", sums_KT.clone(), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def reset(self) -> None:
        """Forget all clips, also one whose last piece has not come yet."""
        super().reset()
        self.last_clip = None
        self._partial, self._n_partial = None, 0

    def _add(self, scores_KSP: Tensor, last: bool) -> None:
        """Append scores (K, S, P) of consecutive steps of one clip; `last` closes the clip.

        NaN marks a frame without a score (no ground truth in it); it is NaN for all samples.
        """
        if self._partial is None:
            # One tensor for all pieces: a small one kept of each, between the large ones that are
            # freed, would leave the heap full of holes that grow with the horizon.
            self._partial = scores_KSP.new_empty(
                (*scores_KSP.shape[:2], self.horizon), dtype=torch.float64
            )
        before, n_steps = self._n_partial, self._n_partial + scores_KSP.shape[-1]
        if n_steps > self.horizon:
            raise DataError(
                f"{type(self).__name__}: a clip has {n_steps} scored steps but the horizon is "
                f"{self.horizon}; cut it, or close the clip before with last=True"
            )
        self._partial[..., before:n_steps] = scores_KSP
        self._n_partial = n_steps
        if not last:
            return
        scores_KST = self._partial[..., :n_steps]
        self._partial, self._n_partial = None, 0
        on_cpu = scores_KST.cpu().numpy()
        sign = 1.0 if self.higher_is_better else -1.0
        if self.best_by is None:
            best_K = [best_sample(sign * scores_ST) for scores_ST in on_cpu]
        else:
            chosen = best_sample(sign * on_cpu[self.names.index(self.best_by)])
            best_K = [chosen] * len(on_cpu)
        self.last_clip = ClipScores(on_cpu, tuple(best_K))

        known_KT = ~scores_KST[:, 0].isnan()
        chosen_KT = scores_KST[torch.arange(len(best_K)), best_K]
        self.score_sums[:, :n_steps] += scores_KST.mean(dim=1).nan_to_num(nan=0.0)
        self.best_sums[:, :n_steps] += chosen_KT.nan_to_num(nan=0.0)
        self.counts[:, :n_steps] += known_KT

    def curves(self) -> dict[str, HorizonCurve]:
        """The curve of every metric by name."""
        counts_KT = self.counts.cpu().numpy()
        # A step without any clip is 0/0: NaN, as documented.
        with np.errstate(invalid="ignore"):
            mean_KT = self.score_sums.cpu().numpy() / counts_KT
            best_KT = self.best_sums.cpu().numpy() / counts_KT
        return {
            name: HorizonCurve(mean_KT[k], best_KT[k], counts_KT[k])
            for k, name in enumerate(self.names)
        }
