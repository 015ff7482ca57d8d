"""Evaluation protocol: the conditions under which a number was measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hvp.errors import ConfigError
from hvp.records import parse

_LISTS = ("artifacts", "checkpoints")


@dataclass(frozen=True)
class Protocol:
    """Conditions of a measurement, complete enough to repeat it; stored with every row."""

    dataset: str
    """Data set, for example `kitti`."""
    split: str
    """Split that the clips come from."""
    height: int
    """Height of the compared frames in pixels."""
    width: int
    """Width of the compared frames in pixels."""
    frame_step: int
    """Distance between two frames of a clip, in recorded frames."""
    n_clips: int
    """Number of evaluated clips."""
    n_samples: int
    """Predicted futures per clip, the S of best-of-S."""
    context: int
    """True frames given to the model (n_past); the metrics leave them out."""
    horizon: int
    """Predicted frames per clip (n_eval)."""
    trained_horizon: int
    """Predicted frames that training went through (n_future)."""
    seed: int | None
    """Seed of the sampling; None where the samples were not seeded or it is unknown."""
    artifacts: tuple[str, ...] = ()
    """What was evaluated, as artifact references with version: `structure-kitti:v3`."""
    checkpoints: tuple[str, ...] = ()
    """The weights that made it, as artifact references with version; empty where they are not in
    the artifact store, as those of a foreign model."""
    metric_window: int = 1
    """Frames that one value of the metric looks at: 1 for per-frame metrics."""
    context_included: bool = False
    """Whether context frames are part of the metric."""
    feature_network: str = "none"
    """Network and weight digest of feature-based metrics; `none` for pixel-wise ones."""

    def __post_init__(self) -> None:
        positive = ("height", "width", "frame_step", "n_clips", "n_samples", "context", "horizon")
        for name in (*positive, "trained_horizon", "metric_window"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"evaluation protocol: {name} is {getattr(self, name)}, expected at least 1"
                )

    def steps(self, measured: int | None) -> int:
        """Predicted steps that any ground truth reaches, of which a clip has `measured` at most."""
        return self.horizon if measured is None else max(1, min(measured, self.horizon))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in _LISTS}}

    def to_row(self) -> dict[str, Any]:
        """`to_dict` with single values only, for a row of a table."""
        return {**asdict(self), **{name: "; ".join(getattr(self, name)) for name in _LISTS}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Protocol":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: keys are unknown or missing, or values of other types.
        """
        try:
            return parse(cls, values)
        except ValueError as error:
            raise ConfigError(f"evaluation protocol: {error}; give what `to_dict` gives") from error

    def conditions(self) -> str:
        """`describe`, and what else a number depends on."""
        looks = "single frames" if self.metric_window == 1 else f"{self.metric_window} frames"
        return (
            f"{self.describe()} The metric looks at {looks}, context "
            f"{'included' if self.context_included else 'left out'}; features: "
            f"{self.feature_network}. Measured: {', '.join(self.artifacts) or 'not recorded'}; "
            f"weights: {', '.join(self.checkpoints) or 'not recorded'}."
        )

    def describe(self) -> str:
        """One sentence for people."""
        return (
            f"{self.n_clips} clip{'s' * (self.n_clips != 1)} of {self.dataset}/{self.split} at "
            f"{self.height}x{self.width} (height x width), "
            f"every {_ordinal(self.frame_step)} frame; "
            f"{self.context} context frames, {self.horizon} predicted "
            f"({min(self.trained_horizon, self.horizon)} of them within the trained horizon), "
            f"{self.n_samples} sample{'s' * (self.n_samples != 1)} per clip, "
            f"seed {'unknown' if self.seed is None else self.seed}."
        )


def _ordinal(number: int) -> str:
    """1 -> `single`, 2 -> `2nd`: completes 'every ... frame'."""
    if number == 1:
        return "single"
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 <= number % 100 <= 20 else suffix}"
