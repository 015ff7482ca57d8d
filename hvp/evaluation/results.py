"""Results: curves against the horizon, their averages over windows, and the files they live in.

Shapes: T horizon (predicted steps). Steps are counted from 1: step 1 is the first predicted frame.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from hvp.errors import ArtifactError, ConfigError
from hvp.evaluation.protocol import Protocol
from hvp.files import atomic_path, write_json

STRUCTURE_MODEL = "structure model"
IMAGE_MODEL = "image model"
COPY_LAST = "copy last frame"
ORACLE = "image model on ground-truth labels"

MEAN = "mean"
BEST = "best-of-S"

_FORMAT = 1


@dataclass(frozen=True)
class Window:
    """A range of predicted steps, both ends included."""

    name: str
    """`near`, `middle`, `far`, `all`, `trained`, `beyond` or `step`."""
    first: int
    """First step, counted from 1."""
    last: int
    """Last step."""

    @property
    def steps(self) -> str:
        """The range for people: `3` or `1-15`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def windows(measured: int, trained: int) -> list[Window]:
    """The windows that curves are averaged over.

    Args:
        measured: steps for which any clip has ground truth; the horizon where the ground truth is
            long enough. Thirds of the whole horizon would be empty where the roll-out passes the
            end of the ground truth, as in KITTI.
        trained: steps that training went through.

    Returns:
        `near`, `middle` and `far` (thirds of the measured steps; fewer when there are fewer than
        three), `all`, `trained` and, if it exists, `beyond` (the trained horizon).

    Example:
        >>> [f"{window.name} {window.steps}" for window in windows(measured=20, trained=15)]
        ['near 1-7', 'middle 8-14', 'far 15-20', 'all 1-20', 'trained 1-15', 'beyond 16-20']
    """
    if measured == 0:
        return []
    thirds = np.array_split(np.arange(1, measured + 1), 3)
    found = [
        Window(name, int(steps[0]), int(steps[-1]))
        for name, steps in zip(("near", "middle", "far"), thirds, strict=True)
        if steps.size
    ]
    found.append(Window("all", 1, measured))
    found.append(Window("trained", 1, min(trained, measured)))
    if measured > trained:
        found.append(Window("beyond", trained + 1, measured))
    return found


@dataclass(frozen=True)
class Curve:
    """One metric of one system against the horizon."""

    system: str
    """`STRUCTURE_MODEL`, `IMAGE_MODEL`, `COPY_LAST` or `ORACLE`."""
    metric: str
    """`miou`, `pixel_accuracy`, `psnr` or `ssim`."""
    aggregate: str
    """`MEAN` (over samples) or `BEST` (of S samples per clip)."""
    values: np.ndarray
    """float64 (T,): mean over clips at each step; NaN where no clip has ground truth."""
    clips: np.ndarray
    """int64 (T,): clips with ground truth at each step."""

    @property
    def measured(self) -> int:
        """The last step at which any clip has ground truth."""
        steps = np.flatnonzero(self.clips)
        return int(steps[-1]) + 1 if steps.size else 0

    def average(self, window: Window) -> float:
        """Mean over all frames with ground truth within `window`; every frame counts the same."""
        steps = slice(window.first - 1, window.last)
        clips = self.clips[steps]
        if not clips.sum():
            return math.nan
        return float(np.where(clips > 0, self.values[steps], 0.0) @ clips / clips.sum())


@dataclass(frozen=True)
class Row:
    """One number: a curve at a step, or averaged over a window."""

    system: str
    metric: str
    aggregate: str
    window: str
    first_step: int
    last_step: int
    value: float
    clips: int
    """Clips that contribute."""
    frames: int
    """Frames with ground truth that contribute, over all clips."""


@dataclass(frozen=True)
class Result:
    """Everything measured under one protocol."""

    protocol: Protocol
    curves: tuple[Curve, ...]
    best_samples: Mapping[str, Mapping[str, int]]
    """For each metric and clip name, the sample of the model that best-of-S takes."""
    class_iou: Mapping[str, Mapping[str, float]]
    """For each system and class name, the IoU over all frames, clips and samples; NaN for classes
    that never occur in the ground truth. Empty for RGB."""

    def curve(self, system: str, metric: str, aggregate: str) -> Curve | None:
        """That curve, or None if it was not measured."""
        wanted = (system, metric, aggregate)
        return next((c for c in self.curves if (c.system, c.metric, c.aggregate) == wanted), None)

    def windows(self) -> list[Window]:
        """The windows of all curves here: the steps at which any of them has ground truth."""
        measured = max((curve.measured for curve in self.curves), default=0)
        return windows(measured, self.protocol.trained_horizon)

    def window_rows(self) -> list[Row]:
        """Every curve averaged over every window."""
        return [_row(curve, window) for curve in self.curves for window in self.windows()]

    def step_rows(self) -> list[Row]:
        """Every curve at every step of the horizon."""
        return [
            _row(curve, Window("step", step, step))
            for curve in self.curves
            for step in range(1, len(curve.values) + 1)
        ]


def _row(curve: Curve, window: Window) -> Row:
    clips = curve.clips[window.first - 1 : window.last]
    return Row(
        system=curve.system,
        metric=curve.metric,
        aggregate=curve.aggregate,
        window=window.name,
        first_step=window.first,
        last_step=window.last,
        value=curve.average(window),
        clips=int(clips.max(initial=0)),
        frames=int(clips.sum()),
    )


@dataclass(frozen=True)
class NotComputed:
    """A number that is missing, and how to get it; never replaced by another one."""

    what: str
    """Metric or group of metrics, for example `PSNR and SSIM`."""
    why: str
    """The reason in one sentence."""
    command: str = ""
    """The command that would compute it; empty if there is none."""


@dataclass(frozen=True)
class Evaluation:
    """All results of one evaluation."""

    results: tuple[Result, ...]
    not_computed: tuple[NotComputed, ...] = ()

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def find(self, metric: str) -> Result | None:
        """The first result with a curve of `metric`."""
        return next((r for r in self if any(c.metric == metric for c in r.curves)), None)


def save_results(folder: Path, evaluation: Evaluation) -> tuple[Path, Path]:
    """Write `results.json` (windows, curves, protocol) and `results.csv` (all rows), atomically.

    The CSV is in long format: one row per number, windows and single steps, each with the columns
    of its protocol. Missing values are null in JSON and `nan` in CSV.

    Returns:
        The two paths.
    """
    json_path, csv_path = folder / "results.json", folder / "results.csv"
    content = {
        "format": _FORMAT,
        "results": [_result_to_dict(result) for result in evaluation],
        "not_computed": [asdict(item) for item in evaluation.not_computed],
    }
    write_json(json_path, content)
    columns = [field.name for field in fields(Row)] + [field.name for field in fields(Protocol)]
    with (
        atomic_path(csv_path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for result in evaluation:
            protocol = result.protocol.to_dict() | {
                "artifacts": "; ".join(result.protocol.artifacts)
            }
            for row in result.window_rows() + result.step_rows():
                writer.writerow(asdict(row) | protocol)
    return json_path, csv_path


def load_results(path: Path) -> Evaluation:
    """Read a `results.json`.

    Raises:
        ArtifactError: the file is missing or not one that `save_results` wrote.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
        return Evaluation(
            results=tuple(_result_from_dict(values) for values in content["results"]),
            not_computed=tuple(NotComputed(**values) for values in content["not_computed"]),
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ArtifactError(
            f"{path}: not a readable results file ({error!r}); run the evaluation again"
        ) from error


def _result_to_dict(result: Result) -> dict[str, Any]:
    return {
        "protocol": result.protocol.to_dict(),
        "rows": [asdict(row) | {"value": _to_json(row.value)} for row in result.window_rows()],
        "curves": [
            {
                "system": curve.system,
                "metric": curve.metric,
                "aggregate": curve.aggregate,
                "values": [_to_json(value) for value in curve.values.tolist()],
                "clips": curve.clips.tolist(),
            }
            for curve in result.curves
        ],
        "best_samples": result.best_samples,
        "class_iou": {
            system: {name: _to_json(value) for name, value in values.items()}
            for system, values in result.class_iou.items()
        },
    }


def _result_from_dict(values: Mapping[str, Any]) -> Result:
    return Result(
        protocol=Protocol.from_dict(values["protocol"]),
        curves=tuple(
            Curve(
                system=curve["system"],
                metric=curve["metric"],
                aggregate=curve["aggregate"],
                values=np.array([_from_json(value) for value in curve["values"]], np.float64),
                clips=np.array(curve["clips"], np.int64),
            )
            for curve in values["curves"]
        ),
        best_samples=values["best_samples"],
        class_iou={
            system: {name: _from_json(value) for name, value in classes.items()}
            for system, classes in values["class_iou"].items()
        },
    )


def _to_json(value: float) -> float | None:
    """NaN is not JSON."""
    return None if math.isnan(value) else value


def _from_json(value: float | None) -> float:
    return math.nan if value is None else value
