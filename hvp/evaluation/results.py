"""Results: everything measured under a protocol, as rows, and the files it lives in."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hvp.errors import ArtifactError, ConfigError
from hvp.evaluation.curves import MEAN, Curve, Series, Window, windows
from hvp.evaluation.protocol import Protocol
from hvp.files import atomic_path, write_json

_FORMAT = 2


@dataclass(frozen=True)
class Row:
    """One number: a curve at a step or averaged over a window, or a point of a series."""

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
    """Frames that contribute, over all clips; of a curve those with ground truth, of a series all
    frames of its windows, over all samples."""
    class_name: str = ""
    """The class that the number is of; empty for numbers of all classes, and of RGB."""


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
    series: tuple[Series, ...] = ()
    confusion: Mapping[str, np.ndarray] = field(default_factory=dict)
    """For each system, int64 (C, C+1) over all frames, clips and samples: row true class, column
    predicted class, the last column predicted none. Empty for RGB."""
    class_curves: tuple[Curve, ...] = ()
    """Frame-wise IoU of each class that occurs, for each system; empty for RGB."""

    def curve(self, system: str, metric: str, aggregate: str) -> Curve | None:
        """That curve, or None if it was not measured."""
        wanted = (system, metric, aggregate)
        return next((c for c in self.curves if (c.system, c.metric, c.aggregate) == wanted), None)

    def find_series(self, system: str, metric: str) -> Series | None:
        """That series, or None if it was not measured."""
        wanted = (system, metric)
        return next((s for s in self.series if (s.system, s.metric) == wanted), None)

    @property
    def metrics(self) -> list[str]:
        """The metrics that curves and series are of, each once."""
        names = [curve.metric for curve in self.curves] + [s.metric for s in self.series]
        return list(dict.fromkeys(names))

    def windows(self) -> list[Window]:
        """The windows of all curves here: the steps at which any of them has ground truth."""
        measured = max((curve.measured for curve in self.curves), default=0)
        return windows(measured, self.protocol.trained_horizon)

    def window_rows(self) -> list[Row]:
        """Every curve averaged over every window, those of classes too."""
        return [
            _row(curve, window)
            for curve in (*self.curves, *self.class_curves)
            for window in self.windows()
        ]

    def point_rows(self) -> list[Row]:
        """Every point of every series."""
        return [
            Row(
                system=series.system,
                metric=series.metric,
                aggregate=MEAN,
                window="point",
                first_step=int(series.first[i]),
                last_step=int(series.last[i]),
                value=float(series.values[i]),
                clips=self.protocol.n_clips,
                frames=int(series.windows[i]) * self.protocol.metric_window,
            )
            for series in self.series
            for i in range(len(series.values))
        ]

    def step_rows(self) -> Iterator[Row]:
        """Every curve at every measured step; those of classes stand in the JSON file."""
        for curve in self.curves:
            for step in range(1, len(curve.values) + 1):
                yield _row(curve, Window("step", step, step))


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
        class_name=curve.class_name,
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
        """The first result with a curve or series of `metric`."""
        return next((r for r in self if metric in r.metrics), None)


def save_results(folder: Path, evaluation: Evaluation) -> tuple[Path, Path]:
    """Write `results.json` (windows, curves, protocol) and `results.csv` (all rows), atomically.

    The CSV is in long format: one row per number, windows and single steps, each with the columns
    of its protocol; of classes it has the windows, the JSON file the steps too. Missing values are
    null in JSON and `nan` in CSV.

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
    columns = [column.name for kind in (Row, Protocol) for column in fields(kind)]
    with (
        atomic_path(csv_path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for result in evaluation:
            protocol = result.protocol.to_row()
            for row in chain(result.window_rows(), result.point_rows(), result.step_rows()):
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
        "rows": [
            asdict(row) | {"value": _to_json(row.value)}
            for row in result.window_rows() + result.point_rows()
        ],
        "curves": [_curve_to_dict(curve) for curve in result.curves],
        "class_curves": [
            {**_curve_to_dict(curve), "class_name": curve.class_name}
            for curve in result.class_curves
        ],
        "series": [
            {
                "system": series.system,
                "metric": series.metric,
                "values": [_to_json(value) for value in series.values.tolist()],
                "first": series.first.tolist(),
                "last": series.last.tolist(),
                "windows": series.windows.tolist(),
                "real_windows": series.real_windows,
            }
            for series in result.series
        ],
        "best_samples": result.best_samples,
        "class_iou": {
            system: {name: _to_json(value) for name, value in values.items()}
            for system, values in result.class_iou.items()
        },
        "confusion": {system: matrix.tolist() for system, matrix in result.confusion.items()},
    }


def _curve_to_dict(curve: Curve) -> dict[str, Any]:
    return {
        "system": curve.system,
        "metric": curve.metric,
        "aggregate": curve.aggregate,
        "values": [_to_json(value) for value in curve.values.tolist()],
        "clips": curve.clips.tolist(),
    }


def _curve_from_dict(values: Mapping[str, Any]) -> Curve:
    return Curve(
        system=values["system"],
        metric=values["metric"],
        aggregate=values["aggregate"],
        values=np.array([_from_json(value) for value in values["values"]], np.float64),
        clips=np.array(values["clips"], np.int64),
        class_name=values.get("class_name", ""),
    )


def _result_from_dict(values: Mapping[str, Any]) -> Result:
    return Result(
        protocol=Protocol.from_dict(values["protocol"]),
        curves=tuple(map(_curve_from_dict, values["curves"])),
        class_curves=tuple(map(_curve_from_dict, values.get("class_curves", ()))),
        series=tuple(
            Series(
                system=series["system"],
                metric=series["metric"],
                values=np.array([_from_json(value) for value in series["values"]], np.float64),
                first=np.array(series["first"], np.int64),
                last=np.array(series["last"], np.int64),
                windows=np.array(series["windows"], np.int64),
                real_windows=series["real_windows"],
            )
            for series in values["series"]
        ),
        best_samples=values["best_samples"],
        class_iou={
            system: {name: _from_json(value) for name, value in classes.items()}
            for system, classes in values["class_iou"].items()
        },
        confusion={  # not in files of earlier versions
            system: np.array(matrix, np.int64)
            for system, matrix in values.get("confusion", {}).items()
        },
    )


def _to_json(value: float) -> float | None:
    """NaN is not JSON."""
    return None if math.isnan(value) else value


def _from_json(value: float | None) -> float:
    return math.nan if value is None else value
