"""Description of a metric: its name, unit and direction, and how tables and figures show it.

Descriptions travel with the results (`results.json`), so that a report or a comparison needs
nothing else to show them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from hvp.clips import Channel
from hvp.errors import ConfigError
from hvp.evaluation.systems import MODELS
from hvp.records import parse

Kind = Literal["curve", "series", "number", "classes"]
"""What a metric gives for each system:

- `curve`: a score at every predicted step that has ground truth;
- `series`: a value for each of several windows along the roll-out, beyond the ground truth too
  (does quality last?);
- `number`: one value for the whole roll-out;
- `classes`: one value for each class of the label maps, and a curve of each.
"""


_MAX_DECIMALS = 20


@dataclass(frozen=True)
class MetricInfo:
    """Description of one metric."""

    name: str
    """Key in files and logs, unique in an evaluation: `miou`."""
    title: str
    """What people call it: `mIoU`."""
    channel: Channel
    """What is measured: `labels` (label maps) or `frames` (RGB). It says whose numbers stand under
    `model`: those of the structure model or of the image model."""
    kind: Kind
    decimals: int = 3
    """Decimals that are shown."""
    higher_is_better: bool | None = None
    """The direction; None where neither is better."""
    unit: str = ""
    """`dB`, `nats`, ...; empty where there is none."""
    explanation: str = ""
    """A sentence for the report on how to read it, or none."""

    def __post_init__(self) -> None:
        if self.channel not in MODELS:
            raise ConfigError(
                f"metric {self.name}: channel {self.channel!r}, expected {' or '.join(MODELS)}"
            )
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"metric {self.name}: kind {self.kind!r}, expected one of "
                f"{', '.join(get_args(Kind))}"
            )

        if not 0 <= self.decimals <= _MAX_DECIMALS:
            raise ConfigError(
                f"metric {self.name}: decimals={self.decimals}, expected 0 to {_MAX_DECIMALS}"
            )

    @property
    def heading(self) -> str:
        """Title and unit: `PSNR in dB`."""
        return f"{self.title} in {self.unit}" if self.unit else self.title

    @property
    def model(self) -> str:
        """The system whose numbers stand under `model`."""
        return MODELS[self.channel]

    def format(self, value: float, signed: bool = False) -> str:
        """The number at this metric's precision; `n/a` for NaN.

        Example:
            >>> MetricInfo("psnr", "PSNR", "frames", "curve", decimals=2).format(1.234, signed=True)
            '+1.23'
        """
        if math.isnan(value):
            return "n/a"
        return f"{value:{'+' if signed else ''}.{self.decimals}f}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MetricInfo":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: keys are unknown or missing, or values of other types.
        """
        try:
            return parse(cls, values)
        except ValueError as error:
            raise ConfigError(f"metric description: {error}; give what `to_dict` gives") from error
