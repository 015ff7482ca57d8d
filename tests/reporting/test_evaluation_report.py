import base64
import re
from pathlib import Path

import numpy as np
import pytest

from hvp.errors import DataError
from hvp.evaluation.curves import MEAN
from hvp.evaluation.systems import ORACLE, STRUCTURE_MODEL
from hvp.media import read_frames
from hvp.reporting.panels import PHASE_COLOURS, ClipPanel, Stream, write_panel
from hvp.reporting.plots import horizon_figure, horizon_svg
from hvp.reporting.report import write_report
from hvp.reporting.summary import summarise
from tests.helpers.small_report import (
    CONTEXT,
    HEIGHT,
    HORIZON,
    SPACE,
    TRAINED,
    WIDTH,
    Reader,
    label_maps,
    make_report,
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, make_report(path.parent)[0])
    return path.read_text(encoding="utf-8")


def test_page_is_well_formed_and_refers_to_nothing_outside_itself(page: str) -> None:
    reader = Reader(page)
    assert reader.open == []
    assert reader.references
    assert all(reference.startswith(("data:", "#")) for reference in reader.references)
    assert re.findall(r"(?i)https?:|@import|<script|url\((?!\W?#)", page) == []


def test_page_shows_the_measured_numbers(page: str) -> None:
    text = " ".join(Reader(page).text.split())
    for row in summarise(make_report()[0].evaluation):
        others = [ORACLE] if row.metric.name in ("psnr", "ssim") else []
        shown = f"{row.window} ({row.steps}) {' '.join(row.cells(others))}"
        assert shown.replace(" ", "") in text.replace(" ", "")


def test_every_number_and_curve_has_its_protocol_on_hover(page: str) -> None:
    numbers = Reader(page).numbers
    assert len(numbers) > 60
    assert all("1 clip of toy/test at 32x48 (height x width)" in number for number in numbers)
    assert all("The metric looks at single frames" in number for number in numbers)


def test_page_says_how_it_was_made(page: str) -> None:
    text = Reader(page).text
    for expected in (
        "Toy & test",
        "python run.py stage=evaluate dataset=toy",
        "name: <toy>",
        "LPIPS: not computed. Its weights are missing.",
        "python run.py stage=evaluate a=<b>",
        "predictions-toy:v2",
        "abc123",
        "1 clip of toy/test at 32x48 (height x width)",
        "green: context",
        "yellow: predicted, within the trained horizon",
        "red: predicted, beyond the trained horizon",
    ):
        assert expected in text


def test_class_table_lists_only_classes_of_the_ground_truth(page: str) -> None:
    text = Reader(page).text
    assert "2 classes occur in the ground truth" in text
    assert "car" in text
    assert "tram" not in text


def test_page_does_not_change_with_the_run_except_its_date(page: str, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", make_report(tmp_path)[0])
    again = (tmp_path / "report.html").read_text(encoding="utf-8")
    date = re.compile(r"Made [^<]*")
    assert date.sub("", again) == date.sub("", page)


def test_embedded_video_decodes_with_framed_pictures_in_place(page: str, tmp_path: Path) -> None:
    (encoded,) = re.findall(r"data:video/mp4;base64,([A-Za-z0-9+/=]+)", page)
    (tmp_path / "video.mp4").write_bytes(base64.b64decode(encoded))
    video = list(read_frames(tmp_path / "video.mp4"))
    report, structure = make_report(tmp_path)
    best = structure.best_samples["miou"]["drive <1>"]
    assert report.videos[0].titles[:2] == ("ground truth", f"best sample (no. {best + 1})")
    assert len(report.videos[0].titles) == 4
    columns = [label_maps(0), *(label_maps(s + 1) for s in [best, *({0, 1, 2} - {best})])]
    assert len(video) == CONTEXT + HORIZON
    scale, border = 6, 2
    phases = ["context"] * CONTEXT + ["trained"] * TRAINED + ["beyond"] * (HORIZON - TRAINED)
    for t, (picture, phase) in enumerate(zip(video, phases, strict=True)):
        small = picture[scale // 2 :: scale, scale // 2 :: scale].astype(int)
        for column, labels in enumerate(columns):
            for row in range(2):
                top = border + row * (HEIGHT + 3 * border)
                left = border + column * (WIDTH + 3 * border)
                np.testing.assert_allclose(small[top, left + 5], PHASE_COLOURS[phase], atol=16)
                inner = small[top + border :, left + border :][:HEIGHT, :WIDTH]
                error = np.abs(inner - SPACE.colourise(labels[t])).mean()
                assert error < 8, (t, column, row)


def read_panel(path: Path, panel: ClipPanel, horizon: int = HORIZON) -> list[np.ndarray]:
    write_panel(path, panel, SPACE, CONTEXT, TRAINED, horizon, fps=5)
    return list(read_frames(path))


def test_stream_that_ends_early_goes_grey_and_the_video_goes_on(tmp_path: Path) -> None:
    panel = ClipPanel.arrange("a", Stream(label_maps(0, length=4)), [Stream(label_maps(1))], best=0)
    video = read_panel(tmp_path / "panel.mp4", panel)
    assert len(video) == CONTEXT + HORIZON
    middle = 6 * (2 + 2 + HEIGHT // 2), 6 * (2 + 2 + WIDTH // 2)
    assert np.abs(video[3][middle].astype(int) - 96).max() > 20
    np.testing.assert_allclose(video[4][middle], [96] * 3, atol=6)


def test_missing_rgb_of_all_streams_leaves_the_row_out(tmp_path: Path) -> None:
    with_rgb = [Stream(label_maps(1), SPACE.colourise(label_maps(1)))]
    tall = read_panel(tmp_path / "a.mp4", ClipPanel.arrange("a", with_rgb[0], with_rgb, 0))
    labels = [Stream(label_maps(1))]
    flat = read_panel(tmp_path / "b.mp4", ClipPanel.arrange("b", labels[0], labels, 0))
    assert tall[0].shape[0] > 1.9 * flat[0].shape[0]


def test_a_baseline_is_the_last_column_without_label_maps(tmp_path: Path) -> None:
    maps = label_maps(1)
    with_rgb, bright = Stream(maps, SPACE.colourise(maps)), np.full((*maps.shape, 3), 230, np.uint8)
    panel = ClipPanel.arrange(
        "a", with_rgb, [with_rgb] * 2, best=1, baselines={"theirs": Stream(frames=bright)}
    )
    assert panel.titles == ("ground truth", "best sample (no. 2)", "sample no. 1", "theirs")
    picture = read_panel(tmp_path / "a.mp4", panel)[0]
    below, right = 6 * (HEIGHT + 10), 6 * (3 * (WIDTH + 6) + 2 + WIDTH // 2)
    np.testing.assert_allclose(picture[6 * 10, right], [96] * 3, atol=6)
    np.testing.assert_allclose(picture[below, right], [230] * 3, atol=20)


def test_video_ends_with_the_horizon(tmp_path: Path) -> None:
    panel = ClipPanel.arrange("a", Stream(label_maps(0, 60)), [Stream(label_maps(1, 60))], best=0)
    assert len(read_panel(tmp_path / "panel.mp4", panel, horizon=3)) == CONTEXT + 3


def test_panel_without_frames_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="clip a: no frames to show"):
        read_panel(tmp_path / "panel.mp4", ClipPanel.arrange("a", Stream(), [Stream()], best=0))


def test_figure_draws_the_curves_and_marks_the_trained_horizon() -> None:
    structure = make_report()[1]
    miou, *_ = structure.metrics
    axes = horizon_figure(structure, miou).axes[0]
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    mean = structure.curve(STRUCTURE_MODEL, "miou", MEAN)
    assert mean is not None
    drawn = lines["structure model, mean of 3"]
    np.testing.assert_array_equal(drawn.get_xdata(), range(1, HORIZON + 1))
    np.testing.assert_array_equal(drawn.get_ydata(), mean.values)
    assert {"structure model, best of 3", "copy last frame"} < set(lines)
    assert any(np.array_equal(line.get_xdata(), [TRAINED, TRAINED]) for line in lines.values())


def test_svg_takes_the_page_s_colour() -> None:
    result = make_report()[1]
    svg = horizon_svg(result, result.metrics[1])
    assert svg.startswith('<svg role="img" aria-label="pixel accuracy against the predicted step"')
    assert "fill: currentColor" in svg
    assert "#010203" not in svg
