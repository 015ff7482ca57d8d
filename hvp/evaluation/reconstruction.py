"""Likelihood (NLL, KL) of the ground truth under the structure model; posterior reconstruction."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from hvp.clips import ClipId
from hvp.evaluation.curves import MEAN, Curve
from hvp.evaluation.measure import Measure, Setup
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.missing import Unavailable
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Piece, Stream
from hvp.evaluation.systems import RECONSTRUCTION
from hvp.metrics.likelihood import HorizonLikelihood
from hvp.structure.base import Reconstructs


class Likelihood(Measure):
    """NLL and KL per step given the true past; adds the posterior reconstruction as a baseline.

    Runs the structure model on the ground truth. The reconstruction of a frame is the most likely
    label map given the true frames before it and noise of the posterior, which has seen the frame
    itself; with the skip policy of roll-outs.

    Args:
        setup: what the evaluation knows.
        seed: seed of the posterior's noise.
        reconstruct: whether to run the model at all (`evaluate.reconstruction`).

    Raises:
        Unavailable: the model that made the predictions cannot be had, or has no posterior.
    """

    metrics = (
        MetricInfo(
            "nll", "NLL", "labels", "curve", 3, False, "nats",
            explanation="NLL (per pixel) and KL are those of the true frames, given the true past.",
        ),
        MetricInfo("kl", "KL", "labels", "curve", 2, False, "nats"),
    )  # fmt: skip

    def __init__(self, setup: Setup, seed: int, reconstruct: bool = True) -> None:
        super().__init__(setup)
        if not reconstruct:
            wanted = f"{setup.command} evaluate.reconstruction=true"
            raise Unavailable("evaluate.reconstruction is false.", wanted)
        generator = setup.load_model()
        if not isinstance(generator, Reconstructs):
            raise Unavailable(
                f"The structure model ({type(generator).__name__}) has no posterior "
                "(no method stream_reconstruction)."
            )
        self.generator = generator
        self.protocol = replace(setup.protocol, n_samples=1, seed=seed)
        self.seed = seed
        self.likelihood = HorizonLikelihood(setup.steps)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """See `Measure`."""
        return ("Posterior reconstruction", *super().names())

    def baselines(self, clip: ClipId, truth: Stream) -> Mapping[str, Stream]:
        """The posterior reconstruction."""
        return {RECONSTRUCTION: self.stream(clip, truth)}

    def stream(self, clip: ClipId, truth: Stream) -> Iterator[np.ndarray]:
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

        steps = self.generator.stream_reconstruction(pass_on(), clip, self.seed)
        for t, step in enumerate(steps, start=1):
            true = shown.pop()
            if t < context:
                yield true
                continue
            values = torch.full((2, 1, t - context + 1), torch.nan)
            values[0, 0, -1], values[1, 0, -1] = step.nll_B[0], step.kl_B[0]
            self.likelihood.update(values[0], values[1])
            yield step.labels_BHW[0].cpu().numpy()

    def update(self, piece: Piece) -> None:
        """Nothing: the numbers come while the reconstruction is read."""

    def result(self) -> Result:
        """See `Measure`."""
        scores = self.likelihood.compute()
        curves = tuple(
            Curve.measured_part(self.model, name, MEAN, values, scores.clips)
            for name, values in (("nll", scores.nll), ("kl", scores.kl))
        )
        return Result(self.protocol, self.metrics, curves)
