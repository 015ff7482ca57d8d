"""Measure: base class of all metrics of an evaluation.

To add a metric without touching the package, subclass `Measure` (or `FrameMeasure` of
`hvp/evaluation/frame_measure.py` for a score of single frames) and name the class in the config:
`'+evaluate.measures.mine={_target_: my_module.MyMeasure}'`.

Shapes: S samples, P frames of a piece, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, TypeVar

import torch

from hvp.clips import Channel, ClipId
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.missing import Unavailable
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Result
from hvp.evaluation.streams import Piece, Stream
from hvp.labels import LabelSpace

_CPU = torch.device("cpu")
_T = TypeVar("_T")


def _no_model() -> NoReturn:
    raise Unavailable("The model that made the predictions is not at hand.")


@dataclass(frozen=True)
class Setup:
    """Setup of an evaluation: the first argument of every measure's constructor."""

    protocol: Protocol
    """What is measured: clips, samples, context, horizon, size."""
    space: LabelSpace
    """Classes of the label maps."""
    measured: int | None = None
    """Predicted steps of the longest ground truth; None where it covers the whole horizon."""
    device: torch.device = _CPU
    """Where networks run."""
    command: str = "python run.py stage=evaluate"
    """The command of this evaluation, to which a missing key is appended."""
    load_model: Callable[[], object] = _no_model
    """Loads the structure model that made the predictions, on `device`; raises `Unavailable`."""
    _shared: dict[Hashable, Any] = field(default_factory=dict, repr=False, init=False)

    @property
    def steps(self) -> int:
        """Predicted steps that any ground truth reaches: the length of curves, at least 1."""
        return self.protocol.steps(self.measured)

    def shared(self, key: Hashable, load: Callable[[], _T]) -> _T:
        """Cache of what several measures use, such as a feature network; loaded by the first."""
        if key not in self._shared:
            self._shared[key] = load()
        found: _T = self._shared[key]
        return found


class Measure(ABC):
    """A family of metrics of one channel, computed for all systems of an evaluation.

    A subclass describes its metrics in `metrics`, takes the pieces of all clips in `update` and
    returns curves or series in `result`. The evaluation constructs it once with a `Setup`, and
    with the arguments of its config node: `MyMeasure(setup, **arguments)`. A constructor that
    lacks something (weights, a library) raises `Unavailable` with the command that gets it.

    Args:
        setup: what the evaluation knows.

    Example (a measure of its own; `FrameMeasure` is shorter where single frames are scored)::

        class Coverage(Measure):
            metrics = (MetricInfo("coverage", "coverage", "labels", "number", 3, True),)

            def __init__(self, setup: Setup, threshold: float = 0.5) -> None:
                super().__init__(setup)
                ...
    """

    metrics: ClassVar[tuple[MetricInfo, ...]]
    """Descriptions of all metrics it gives, in the order of tables; all of the same channel."""
    beyond_truth: ClassVar[bool] = False
    """Whether it also measures predicted frames behind the end of the ground truth."""
    min_horizon: ClassVar[int] = 1
    """Predicted frames that it needs, for example those of a window."""
    optional: ClassVar[bool] = False
    """Whether it is left out without a word where nobody has set what it needs."""
    gives_confusion: ClassVar[bool] = False
    """Whether its result has confusion matrices of the classes."""

    protocol: Protocol
    """Conditions of its numbers. A measure that looks at windows of frames, or uses a feature
    network, says so in a copy: `replace(setup.protocol, metric_window=16, feature_network=...)`."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.protocol = setup.protocol

    @classmethod
    def channel(cls) -> Channel:
        """Channel of the frames it measures: `labels` or `frames` (RGB)."""
        return cls.metrics[0].channel

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Titles of its metrics, for the report where it cannot be computed."""
        return tuple(info.title for info in cls.metrics if info.kind != "classes")

    @property
    def model(self) -> str:
        """The evaluated model among the systems of a piece; the others are baselines."""
        return self.metrics[0].model

    def baselines(self, clip: ClipId, truth: Stream) -> Mapping[str, Stream]:
        """Baselines that this measure adds, by their name in results; all measures see them.

        A baseline is one video of the clip, context first, of the measure's channel: label maps
        (H, W) or RGB (H, W, 3) uint8. It may end with the ground truth.

        Args:
            clip: the clip's identity.
            truth: its ground truth, context first, to be read at most once.
        """
        return {}

    @abstractmethod
    def update(self, piece: Piece) -> None:
        """Add the next piece of a clip; `piece.last` ends the clip.

        Pieces come in order, clip by clip. Their tensors are uint8 on the CPU.
        """

    @abstractmethod
    def result(self) -> Result:
        """Curves and series of everything so far: `Result(self.protocol, self.metrics, ...)`.

        Raises:
            Unavailable: it cannot be computed, for example of too few clips.
        """
