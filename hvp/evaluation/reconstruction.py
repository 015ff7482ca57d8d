"""Likelihood of the ground truth under the structure model, and its posterior reconstruction."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from hvp.clips import ClipId
from hvp.evaluation.curves import MEAN, STRUCTURE_MODEL, Curve
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Stream
from hvp.metrics.likelihood import HorizonLikelihood
from hvp.structure.base import Reconstructs


class Reconstructor:
    """Runs the structure model on the ground truth: what it reaches when it knows the past.

    The reconstruction of a frame is the most likely label map given the true frames before it and
    noise of the posterior, which has seen the frame itself; with the skip policy of roll-outs.

    Args:
        module: the structure model that made the predictions, on the device it shall run on.
        protocol: what is measured.
        seed: seed of the posterior's noise.
        measured: predicted steps of the longest ground truth; None for the whole horizon.
    """

    def __init__(
        self,
        module: Reconstructs,
        protocol: Protocol,
        seed: int,
        measured: int | None = None,
    ) -> None:
        self.module = module
        self.protocol = replace(protocol, n_samples=1, seed=seed)
        self.seed = seed
        self.likelihood = HorizonLikelihood(protocol.steps(measured))

    def stream(self, identity: ClipId, truth: Stream) -> Iterator[np.ndarray]:
        """The true context (H, W) uint8, then the reconstruction of every frame behind it.

        NLL and KL of a frame count as soon as it is read.
        """
        context, horizon = self.protocol.context, self.protocol.horizon
        frames = islice(iter(truth), context + horizon)
        first = next(frames, None)
        if first is None:
            return
        yield first
        shown: list[np.ndarray] = []  # the true context, as it goes by

        def pass_on() -> Iterator[torch.Tensor]:
            yield torch.from_numpy(first)
            for frame in frames:
                shown.append(frame)
                yield torch.from_numpy(frame)

        steps = self.module.stream_reconstruction(pass_on(), identity, self.seed)
        for t, step in enumerate(steps, start=1):
            true = shown.pop()
            if t < context:
                yield true
                continue
            values = torch.full((2, 1, t - context + 1), torch.nan)
            values[0, 0, -1], values[1, 0, -1] = step.nll_B[0], step.kl_B[0]
            self.likelihood.update(values[0], values[1])
            yield step.labels_BHW[0].cpu().numpy()

    def result(self) -> Result:
        """NLL and KL per predicted step, given the true past."""
        scores = self.likelihood.compute()
        curves = tuple(
            Curve.measured_part(STRUCTURE_MODEL, name, MEAN, values, scores.clips)
            for name, values in (("nll", scores.nll), ("kl", scores.kl))
        )
        return Result(self.protocol, curves, {}, {})
