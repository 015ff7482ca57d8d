"""Results of an evaluation: numbers, descriptions of their metrics, and the files of both."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from hvp.errors import ArtifactError, ConfigError
from hvp.evaluation.curves import MEAN, Curve, Series, Window, windows
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.protocol import Protocol
from hvp.files import read_json, write_json
from hvp.records import MAX_INT, parse
from hvp.tables import write_csv

FORMAT = 3
"""Version of `results.json`: since 3 it holds the descriptions of its metrics."""

_SHOWN_AS = ("unit", "higher_is_better")  # of a metric's description, in each row of the CSV


@dataclass(frozen=True)
class Row:
    """Row of the tables: a curve at a step or averaged over a window, or a point of a series."""

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
    """Result of one measure: numbers under one protocol, and the descriptions of its metrics."""

    protocol: Protocol
    metrics: tuple[MetricInfo, ...]
    """Descriptions of all metrics here, in the order of tables; some may have no number."""
    curves: tuple[Curve, ...] = ()
    series: tuple[Series, ...] = ()
    """Also metrics that are one number: a series of one point."""
    best_samples: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """For each metric that ranks samples and each clip name, the sample of the model that best-of-S
    takes."""
    class_scores: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """For each metric of kind `classes`, system and class name, the value over all frames, clips
    and samples; NaN for classes that never occur in the ground truth. Empty for RGB."""
    class_curves: tuple[Curve, ...] = ()
    """Frame-wise scores of each class that occurs, for each system; empty for RGB."""
    confusion: Mapping[str, np.ndarray] = field(default_factory=dict)
    """For each system, int64 (C, C+1) over all frames, clips and samples: row true class, column
    predicted class, the last column predicted none. Empty for RGB."""

    def __post_init__(self) -> None:
        kinds = {info.name: info.kind for info in self.metrics}
        found = self._names() | {curve.metric for curve in self.class_curves}
        if unknown := sorted((found | {*self.best_samples, *self.class_scores}) - {*kinds}):
            raise ConfigError(
                f"result of the metrics {', '.join(sorted(kinds))}: has numbers of "
                f"{unknown[0]}; describe it in the measure's `metrics`"
            )
        for items, allowed in (
            (self.curves, ("curve",)),
            (self.series, ("series", "number")),
            (self.class_curves, ("classes",)),
        ):
            if wrong := next((i.metric for i in items if kinds[i.metric] not in allowed), None):
                raise ConfigError(
                    f"result of the metric {wrong}: is described as {kinds[wrong]!r}, but its "
                    f"numbers are of kind {' or '.join(allowed)}; correct the measure's `metrics`"
                )

    def curve(self, system: str, metric: str, aggregate: str) -> Curve | None:
        """That curve, or None if it was not measured."""
        wanted = (system, metric, aggregate)
        return next((c for c in self.curves if (c.system, c.metric, c.aggregate) == wanted), None)

    def find_series(self, system: str, metric: str) -> Series | None:
        """That series, or None if it was not measured."""
        wanted = (system, metric)
        return next((s for s in self.series if (s.system, s.metric) == wanted), None)

    @property
    def measured(self) -> list[MetricInfo]:
        """The metrics that there are curves or series of, in the order of tables."""
        names = self._names()
        return [info for info in self.metrics if info.name in names]

    def _names(self) -> set[str]:
        return {curve.metric for curve in self.curves} | {one.metric for one in self.series}

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
    """Missing metrics or baselines, and how to get them; never replaced by other numbers."""

    what: str
    """Metrics or baselines, for example `PSNR and SSIM`."""
    why: str
    """The reason in one sentence."""
    command: str = ""
    """The command that would compute it; empty if there is none."""


@dataclass(frozen=True)
class Evaluation:
    """Results of one evaluation."""

    results: tuple[Result, ...]
    """In the order of the measures, which is that of tables and figures."""
    not_computed: tuple[NotComputed, ...] = ()

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def find(self, metric: str) -> Result | None:
        """The first result with a curve or series of the metric of that name."""
        return next((r for r in self if any(i.name == metric for i in r.measured)), None)

    @property
    def measured(self) -> list[tuple[MetricInfo, Result]]:
        """Every metric with curves or series and where they are, in the order of tables."""
        found: dict[str, tuple[MetricInfo, Result]] = {}
        for result in self:
            for info in result.measured:
                found.setdefault(info.name, (info, result))
        return list(found.values())

    @property
    def ranking(self) -> MetricInfo | None:
        """The first metric that ranks the samples of a clip; None where none does."""
        return next(
            (
                info
                for result in self
                for info in result.metrics
                if info.name in result.best_samples
            ),
            None,
        )

    def best_sample(self, clip: str) -> int:
        """The sample of a clip that is shown as the best, by `ranking`; 0 where nothing ranks."""
        ranking = self.ranking
        if ranking is None:
            return 0
        ranks = next(r.best_samples[ranking.name] for r in self if ranking.name in r.best_samples)
        return ranks.get(clip, 0)


def save_results(folder: Path, evaluation: Evaluation) -> tuple[Path, Path]:
    """Write `results.json` and `results.csv`, atomically.

    The JSON file has windows, curves, protocols and the descriptions of the metrics. The CSV is in
    long format: one row per number, windows and single steps, each with the columns of its
    protocol, unit and direction; of classes it has the windows, the JSON file the steps too.
    Missing values are null in JSON and `nan` in CSV.

    Returns:
        The two paths.
    """
    json_path, csv_path = folder / "results.json", folder / "results.csv"
    content = {
        "format": FORMAT,
        "results": [_result_to_dict(result) for result in evaluation],
        "not_computed": [asdict(item) for item in evaluation.not_computed],
    }
    write_json(json_path, content)
    columns = [column.name for kind in (Row, Protocol) for column in fields(kind)]
    columns += _SHOWN_AS
    write_csv(csv_path, columns, chain.from_iterable(map(_csv_rows, evaluation)))
    return json_path, csv_path


def _csv_rows(result: Result) -> Iterator[dict[str, Any]]:
    protocol = result.protocol.to_row()
    shown_as = {
        info.name: {name: getattr(info, name) for name in _SHOWN_AS} for info in result.metrics
    }
    for row in chain(result.window_rows(), result.point_rows(), result.step_rows()):
        yield asdict(row) | protocol | shown_as[row.metric]


def load_results(path: Path) -> Evaluation:
    """Read a `results.json`.

    Raises:
        ArtifactError: the file is missing, of another format, or not one that `save_results` wrote.
    """
    remedy = "run the evaluation again"
    # Numbers may be infinite, which Python writes though JSON has none.
    content = read_json(path, ArtifactError, remedy, finite=False)
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found != FORMAT:
        raise ArtifactError(
            f"{path}: results of format {found!s:.20}, expected {FORMAT}, which also describes its "
            f"metrics; {remedy}"
        )
    try:
        file = parse(_ResultsFile, content)
        return Evaluation(tuple(map(_read_result, file.results)), file.not_computed)
    except (ValueError, ConfigError) as error:
        raise ArtifactError(
            f"{path}: not a readable results file ({error!s:.300}); {remedy}"
        ) from error


def _result_to_dict(result: Result) -> dict[str, Any]:
    return {
        "protocol": result.protocol.to_dict(),
        "metrics": [info.to_dict() for info in result.metrics],
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
        "class_scores": _map_values(_to_json, result.class_scores),
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


@dataclass(frozen=True)
class _StoredCurve:
    system: str
    metric: str
    aggregate: str
    values: list[Any]
    clips: list[Any]
    class_name: str = ""


@dataclass(frozen=True)
class _StoredSeries:
    system: str
    metric: str
    values: list[Any]
    first: list[Any]
    last: list[Any]
    windows: list[Any]
    real_windows: int


@dataclass(frozen=True)
class _StoredResult:
    protocol: dict[str, Any]
    metrics: list[dict[str, Any]]
    rows: list[Any]  # for people; they follow from the rest
    curves: list[_StoredCurve]
    class_curves: list[_StoredCurve]
    series: list[_StoredSeries]
    best_samples: dict[str, dict[str, int]]
    class_scores: dict[str, dict[str, dict[str, Any]]]
    confusion: dict[str, list[list[Any]]]


@dataclass(frozen=True)
class _ResultsFile:
    format: int
    results: tuple[_StoredResult, ...]
    not_computed: tuple[NotComputed, ...]


def _read_result(stored: _StoredResult) -> Result:
    """Result from the file.

    Raises:
        ValueError, ConfigError: lists of different lengths, or values that are no numbers.
    """
    return Result(
        protocol=Protocol.from_dict(stored.protocol),
        metrics=tuple(map(MetricInfo.from_dict, stored.metrics)),
        curves=tuple(map(_read_curve, stored.curves)),
        class_curves=tuple(map(_read_curve, stored.class_curves)),
        series=tuple(map(_read_series, stored.series)),
        best_samples=stored.best_samples,
        class_scores={
            metric: {
                system: dict(zip(of, _floats(list(of.values()), metric).tolist(), strict=True))
                for system, of in systems.items()
            }
            for metric, systems in stored.class_scores.items()
        },
        confusion={system: _read_matrix(rows) for system, rows in stored.confusion.items()},
    )


def _read_curve(stored: _StoredCurve) -> Curve:
    values, clips = _floats(stored.values, stored.metric), _counts(stored.clips, stored.metric)
    _check_lengths(stored.metric, values, clips)
    return Curve(stored.system, stored.metric, stored.aggregate, values, clips, stored.class_name)


def _read_series(stored: _StoredSeries) -> Series:
    values = _floats(stored.values, stored.metric)
    first, last, windows = (
        _counts(numbers, stored.metric) for numbers in (stored.first, stored.last, stored.windows)
    )
    _check_lengths(stored.metric, values, first, last, windows)
    return Series(stored.system, stored.metric, values, first, last, windows, stored.real_windows)


def _read_matrix(rows: list[list[Any]]) -> np.ndarray:
    counts = [_counts(row, "confusion") for row in rows]
    _check_lengths("confusion", *counts)
    return np.stack(counts) if counts else np.zeros((0, 0), np.int64)


def _check_lengths(metric: str, *arrays: np.ndarray) -> None:
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{metric:.80}: lists of {lengths} numbers, expected equally many")


def _floats(values: list[Any], metric: str) -> np.ndarray:
    """Float64, NaN for null; millions of values take a second."""
    if wrong := {*map(type, values)} - {int, float, type(None)}:
        raise ValueError(f"{metric:.80}: {wrong.pop().__name__} among the values, expected numbers")
    if any(value != value for value in values):
        raise ValueError(f"{metric:.80}: NaN among the values, expected null")
    if max((abs(value) for value in values if type(value) is int), default=0) > MAX_INT:
        raise ValueError(f"{metric:.80}: a value beyond 2**53")
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _counts(values: list[Any], metric: str) -> np.ndarray:
    """Int64, none negative."""
    if wrong := {*map(type, values)} - {int}:
        raise ValueError(f"{metric:.80}: {wrong.pop().__name__} among the counts")
    if values and not 0 <= min(values) <= max(values) <= MAX_INT:
        raise ValueError(f"{metric:.80}: a count that is negative or beyond 2**53")
    return np.array(values, np.int64)


def _map_values(function: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`function` of every number in nested mappings."""
    return {
        key: _map_values(function, value) if isinstance(value, Mapping) else function(value)
        for key, value in values.items()
    }


def _to_json(value: float) -> float | None:
    """NaN is not JSON."""
    return None if math.isnan(value) else value
