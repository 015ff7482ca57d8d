"""Base of per-step metrics: mean over samples and best-of-S curves against the horizon.

Shapes: K metrics, S samples of one clip, T horizon (predicted steps), P steps of one chunk.

A horizon metric scores single frames. Its curve at step t is the mean over the clips that have
ground truth at step t; clips whose ground truth ends earlier do not count there. Two curves:

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
    """Curve of one metric over the predicted steps; index 0 is the first predicted frame."""

    mean: np.ndarray
    """float64 (T,): mean over clips and samples; NaN where no clip has ground truth."""
    best: np.ndarray
    """float64 (T,): mean over clips of each clip's best sample; NaN likewise."""
    clips: np.ndarray
    """int64 (T,): number of clips with ground truth at each step."""


class ClipScores(NamedTuple):
    """Scores of the last complete clip of this process."""

    scores_KST: np.ndarray
    """float64 (K, S, steps with ground truth)."""
    best: tuple[int, ...]
    """Best sample of each metric."""


def best_sample(scores_ST: np.ndarray) -> int:
    """Best of S: index of the sample with the highest mean over the steps; NaN steps are skipped.

    Example:
        >>> best_sample(np.array([[0.9, 0.1], [0.6, 0.6], [np.nan, 0.5]]))
        1
    """
    known_ST = ~np.isnan(scores_ST)
    sums_S = np.where(known_ST, scores_ST, 0.0).sum(axis=1)
    means_S = np.where(known_ST.any(axis=1), sums_S / known_ST.sum(axis=1).clip(min=1), -np.inf)
    return int(np.argmax(means_S))


class HorizonMetric(Metric):
    """Base metric per predicted step; a subclass's `update` scores frames.

    `higher_is_better` decides which sample is the best, for all K metrics.

    All states are sums over clips (float64 and int64), reduced by addition over processes that have
    different clips. Clips in chunks need `update`; `forward` would drop their first chunks.

    Args:
        names: the K metrics.
        horizon: number of predicted steps T.
        best_by: metric that selects each clip's best sample for all K metrics; None = each its own.
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
        self._partial: Tensor | None = None  # scores (K, S, T) of the clip in progress
        self._n_partial = 0  # number of its steps so far
        shape = (len(self.names), horizon)
        sums_KT = torch.zeros(shape, dtype=torch.float64)
        self.add_state("score_sums", sums_KT.clone(), dist_reduce_fx="sum")
        self.add_state("best_sums", sums_KT.clone(), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def reset(self) -> None:
        """Reset the states, also those of a clip in progress."""
        super().reset()
        self.last_clip = None
        self._partial, self._n_partial = None, 0

    def _add(self, scores_KSP: Tensor, last: bool) -> None:
        """Append scores (K, S, P) of consecutive steps of one clip; `last` ends the clip.

        NaN marks a frame without ground truth, in all samples.
        """
        if self._partial is None:
            # One preallocated tensor: a small one per chunk, between large ones that are freed,
            # would fragment the heap, the more the longer the horizon.
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
        """Curve of each metric, by name."""
        counts_KT = self.counts.cpu().numpy()
        # A step without any clip is 0/0: NaN, as documented.
        with np.errstate(invalid="ignore"):
            mean_KT = self.score_sums.cpu().numpy() / counts_KT
            best_KT = self.best_sums.cpu().numpy() / counts_KT
        return {
            name: HorizonCurve(mean_KT[k], best_KT[k], counts_KT[k])
            for k, name in enumerate(self.names)
        }
