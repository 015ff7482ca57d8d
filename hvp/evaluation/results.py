"""Results of an evaluation: numbers, descriptions of their metrics, and the files of both."""

import json
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
from hvp.files import write_json
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
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ArtifactError(
                f"{path}: results of format {content['format']}, expected {FORMAT}, which also "
                "describes its metrics; run the evaluation again"
            )
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
        metrics=tuple(map(MetricInfo.from_dict, values["metrics"])),
        curves=tuple(map(_curve_from_dict, values["curves"])),
        class_curves=tuple(map(_curve_from_dict, values["class_curves"])),
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
        class_scores=_map_values(_from_json, values["class_scores"]),
        confusion={
            system: np.array(matrix, np.int64) for system, matrix in values["confusion"].items()
        },
    )


def _map_values(function: Callable[[Any], Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`function` of every number in nested mappings."""
    return {
        key: _map_values(function, value) if isinstance(value, Mapping) else function(value)
        for key, value in values.items()
    }


def _to_json(value: float) -> float | None:
    """NaN is not JSON."""
    return None if math.isnan(value) else value


def _from_json(value: float | None) -> float:
    return math.nan if value is None else value
