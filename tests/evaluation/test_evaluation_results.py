import csv
import io
import json
import math
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from hvp.errors import ArtifactError, ConfigError
from hvp.evaluation.build import measure_classes
from hvp.evaluation.curves import BEST, MEAN, Curve, Window, windows
from hvp.evaluation.metric import MetricInfo
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import (
    Evaluation,
    NotComputed,
    Result,
    load_results,
    save_results,
)
from hvp.evaluation.systems import COPY_LAST, IMAGE_MODEL, ORACLE, SHORT, STRUCTURE_MODEL
from hvp.reporting.summary import SummaryRow, summarise, summary_table
from tests.helpers.commands import composed

PROTOCOL = Protocol(
    "toy", "test", 8, 10, 2, 4, 3, 5, 6, 4, None, ("structure-toy:v1", "p:v2"), ("weights:v7",)
)
MIOU = MetricInfo("miou", "mIoU", "labels", "curve", 3, True)
IOU = MetricInfo("iou", "IoU", "labels", "classes", 3, True, explanation="Of each class.")
PSNR = MetricInfo("psnr", "PSNR", "frames", "curve", 2, True, "dB")
CLIPS = np.array([4, 4, 4, 2, 2, 0])


def curve(system: str, metric: str, aggregate: str, first: float) -> Curve:
    values = first - 0.1 * np.arange(6)
    values[CLIPS == 0] = np.nan
    return Curve(system, metric, aggregate, values, CLIPS)


def evaluation() -> Evaluation:
    structure = Result(
        PROTOCOL,
        (MIOU, IOU),
        tuple(
            curve(system, "miou", aggregate, first)
            for system, aggregate, first in (
                (STRUCTURE_MODEL, MEAN, 0.9),
                (STRUCTURE_MODEL, BEST, 0.95),
                (COPY_LAST, MEAN, 0.8),
                (COPY_LAST, BEST, 0.8),
            )
        ),
        best_samples={"miou": {"clip 1": 2}},
        class_scores={"iou": {STRUCTURE_MODEL: {"road": 0.75, "car": math.nan}}},
        class_curves=(replace(curve(STRUCTURE_MODEL, "iou", MEAN, 0.7), class_name="road"),),
    )
    images = Result(
        PROTOCOL,
        (PSNR,),
        tuple(
            curve(system, "psnr", aggregate, first)
            for system, first in ((IMAGE_MODEL, 20.0), (COPY_LAST, 22.0), (ORACLE, 25.0))
            for aggregate in (MEAN, BEST)
        ),
        best_samples={"psnr": {"clip 1": 0}},
    )
    missing = NotComputed("SSIM", "No videos were made.", "python run.py stage=image")
    return Evaluation((structure, images), (missing,))


def test_windows_are_thirds_of_the_measured_steps() -> None:
    found = {window.name: window.steps for window in windows(measured=5, trained=4)}
    assert found == {"near": "1-2", "middle": "3-4", "far": "5", "all": "1-5",
                     "trained": "1-4", "beyond": "5"}  # fmt: skip


def test_no_window_beyond_a_horizon_that_was_trained() -> None:
    assert [window.name for window in windows(measured=2, trained=4)] == [
        "near", "middle", "all", "trained",
    ]  # fmt: skip
    assert windows(measured=0, trained=4) == []


def test_window_average_counts_every_frame_with_ground_truth_once() -> None:
    values = curve(STRUCTURE_MODEL, "miou", MEAN, 0.9)
    expected = (4 * 0.9 + 4 * 0.8 + 4 * 0.7 + 2 * 0.6 + 2 * 0.5) / 16
    assert values.average(Window("all", 1, 6)) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(values.average(Window("step", 6, 6)))


def test_summary_has_model_baseline_and_difference() -> None:
    rows = {(r.metric.name, r.aggregate, r.window): r for r in summarise(evaluation())}
    assert set(rows) == {
        (metric, aggregate, window)
        for metric in ("miou", "psnr")
        for aggregate in (MEAN, BEST)
        for window in ("near", "far", "all")
    }
    near = rows["miou", MEAN, "near"]
    assert (near.model, near.copy_last) == pytest.approx((0.85, 0.75))
    assert near.difference == pytest.approx(0.1)
    assert near.steps == "1-2"
    assert near.others == {}
    far = rows["psnr", BEST, "far"]
    assert (far.model, far.copy_last, far.others[ORACLE]) == pytest.approx((19.6, 21.6, 24.6))
    assert far.cells([ORACLE]) == ["19.60", "21.60", "-2.00", "24.60"]


def test_summary_table_fits_a_terminal_of_80_columns() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(summary_table(summarise(evaluation())))
    lines = console.export_text().splitlines()
    assert any(
        line.split() == ["mIoU", "near", "1-2", "0.850", "0.750", "+0.100", "n/a"] for line in lines
    )
    assert not any("…" in line for line in lines)


def test_summary_table_of_all_baselines_fits_a_terminal_of_80_columns() -> None:
    classes = measure_classes(OmegaConf.to_container(composed().evaluate.measures, resolve=True))
    metrics = [info for measure in classes.values() for info in measure.metrics]
    typical = {1: 3456.7, 2: 34.56, 3: 0.345}  # by decimals: distances, decibels, shares
    rows = [
        SummaryRow(metric, MEAN, window, steps, 10, True, value, value, dict.fromkeys(SHORT, value))
        for metric in metrics
        for window, steps in (("first", "1-16"), ("last", "385-400"))
        for value in (typical[metric.decimals],)
    ]
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(summary_table(rows))
    text = console.export_text()
    assert "…" not in text
    assert text.count("3456.7") == 5 * 2 * sum(m.decimals == 1 for m in metrics)


def test_results_survive_the_json_file(tmp_path: Path) -> None:
    before = evaluation()
    json_path, _ = save_results(tmp_path, before)
    after = load_results(json_path)
    assert after.not_computed == before.not_computed
    for old, new in zip(before, after, strict=True):
        assert new.protocol == old.protocol
        assert new.metrics == old.metrics
        assert new.best_samples == old.best_samples
        pairs = ((old.curves, new.curves), (old.class_curves, new.class_curves))
        for old_curve, new_curve in chain(*(zip(*pair, strict=True) for pair in pairs)):
            for name in ("system", "metric", "aggregate", "class_name"):
                assert getattr(new_curve, name) == getattr(old_curve, name)
            np.testing.assert_array_equal(new_curve.values, old_curve.values)
            np.testing.assert_array_equal(new_curve.clips, old_curve.clips)
    of_class = after.results[0].class_scores["iou"][STRUCTURE_MODEL]
    assert of_class["road"] == 0.75
    assert math.isnan(of_class["car"])
    assert (after.ranking, after.best_sample("clip 1")) == (MIOU, 2)


def test_numbers_of_a_metric_that_is_not_described_are_refused() -> None:
    with pytest.raises(ConfigError, match="has numbers of miou; describe it"):
        Result(PROTOCOL, (PSNR,), (curve(STRUCTURE_MODEL, "miou", MEAN, 0.9),))
    with pytest.raises(ConfigError, match=r"iou: is described as 'classes', but .* kind curve"):
        Result(PROTOCOL, (IOU,), (curve(STRUCTURE_MODEL, "iou", MEAN, 0.9),))


def test_the_first_metric_that_ranks_samples_says_which_is_shown_as_best() -> None:
    structure, images = evaluation().results
    assert Evaluation((images, structure)).best_sample("clip 1") == 0
    assert Evaluation((images,)).ranking == PSNR
    unranked = replace(structure, best_samples={})
    assert Evaluation((unranked,)).ranking is None
    assert Evaluation((unranked,)).best_sample("clip 1") == 0


def test_results_of_the_format_before_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"format": 2, "results": [], "not_computed": []}')
    with pytest.raises(ArtifactError) as refused:
        load_results(path)
    assert str(refused.value) == (
        f"{path}: results of format 2, expected 3, which also describes its metrics; run the "
        "evaluation again"
    )


def test_json_file_is_strict_json_with_the_window_rows(tmp_path: Path) -> None:
    json_path, _ = save_results(tmp_path, evaluation())

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(json_path.read_text(), parse_constant=refuse)
    rows = content["results"][0]["rows"]
    near = next(r for r in rows if r["window"] == "near" and r["system"] == STRUCTURE_MODEL)
    assert near["value"] == pytest.approx(0.85)
    assert (near["clips"], near["frames"]) == (4, 8)


def test_csv_has_every_number_with_its_protocol(tmp_path: Path) -> None:
    _, csv_path = save_results(tmp_path, evaluation())
    with csv_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # 10 curves: 5 windows over the 5 measured steps plus `beyond`, and 6 single steps.
    # The curve of the class has the windows.
    assert len(rows) == 10 * (6 + 6) + 6
    roads = [row for row in rows if row["class_name"] == "road"]
    assert {row["metric"] for row in roads} == {"iou"}
    assert float(next(r["value"] for r in roads if r["window"] == "near")) == pytest.approx(0.65)
    assert all(row["dataset"] == "toy" and row["seed"] == "" for row in rows)
    assert all(row["artifacts"] == "structure-toy:v1; p:v2" for row in rows)
    assert all(row["checkpoints"] == "weights:v7" for row in rows)
    assert {(row["metric"], row["unit"], row["higher_is_better"]) for row in rows} == {
        ("miou", "", "True"), ("iou", "", "True"), ("psnr", "dB", "True"),
    }  # fmt: skip
    steps = [
        row
        for row in rows
        if (row["system"], row["metric"], row["aggregate"], row["window"])
        == (STRUCTURE_MODEL, "miou", MEAN, "step")
    ]
    assert [float(row["value"]) for row in steps[:5]] == list(0.9 - 0.1 * np.arange(5))
    assert steps[5]["value"] == "nan"
    assert [int(row["clips"]) for row in steps] == CLIPS.tolist()


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": 3}',
        '{"format": 3, "results": [{}]}',
        '{"format": 3, "results": [{"protocol": {"dataset": "toy"}}]}',
    ],
)
def test_unreadable_results_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"results\.json: (not a|expected) ?readable"):
        load_results(path)


def test_protocol_with_unknown_or_missing_keys_is_refused() -> None:
    values = PROTOCOL.to_dict()
    assert Protocol.from_dict(values) == PROTOCOL
    with pytest.raises(ConfigError, match="horizn"):
        Protocol.from_dict(values | {"horizn": 3})
    del values["split"]
    with pytest.raises(ConfigError, match="split"):
        Protocol.from_dict(values)
