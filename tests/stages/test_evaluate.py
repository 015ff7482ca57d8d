"""Stage `evaluate` through run.py: foreign predictions, baseline SVG-LP on RGB, comparison."""

import base64
import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import ArtifactType
from hvp.artifacts.videos import VideoSet
from hvp.evaluation import folder
from hvp.media import write_mp4
from hvp.reporting import panels
from tests.helpers.commands import SMALL, run_here
from tests.helpers.real_driving import ALEXNET, I3D, needs_real_data

HORIZON = 32  # two windows of FVD; the recordings end behind the first
WORLD = (
    *SMALL,
    f"dataset.rules.n_eval={HORIZON}",
    "dataset.rules.eval_stride=24",
    "dataset.rollout.samples=1",
)
EVALUATE = (*WORLD, "stage=evaluate")
TINY_SVG = (
    "model.svg_rgb.max_steps=2",
    "model.svg_rgb.batch_size=2",
    "model.svg_rgb.module.network.base_width=4",
    "model.svg_rgb.module.network.rnn_width=8",
)


def drifting(seed: int) -> list[np.ndarray]:
    """Frames (64, 64, 3) of a foreign model: a moving pattern."""
    pattern = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    large = np.kron(pattern, np.ones((8, 8, 1), np.uint8))
    return [np.roll(large, t, axis=1) for t in range(HORIZON)]


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SVG-LP on RGB, trained and rolled out; foreign predictions, named by clips.csv."""
    work_dir = tmp_path_factory.mktemp("evaluate")
    run_here(*WORLD, "stage=svg_rgb", *TINY_SVG, work_dir=work_dir)
    theirs = work_dir / "theirs"
    theirs.mkdir()
    with pytest.raises(SystemExit, match=r"no such folder.*the 2 evaluated clips.*clips\.csv"):
        run_here(*EVALUATE, f"evaluate.predictions=folder:{theirs}", work_dir=work_dir)
    (listed,) = work_dir.glob("outputs/evaluate-*/clips.csv")
    with listed.open(newline="") as file:
        clips = list(csv.DictReader(file))
    for number, clip in enumerate(clips):
        assert int(clip["horizon"]) == HORIZON
        write_mp4(theirs / clip["clip"] / "0.mp4", drifting(number), fps=5)
        for t, frame in enumerate(drifting(number + 10)):
            for kind, picture in (("rgb", frame), ("label", frame[..., 0] % 19)):
                path = work_dir / "other" / clip["clip"] / "0" / kind / f"{t:06d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    return work_dir


def evaluate(work_dir: Path, *overrides: str) -> dict[str, Any]:
    """The results.json of a run, read where a user finds it."""
    run_here(*EVALUATE, *overrides, work_dir=work_dir)
    written = work_dir.glob("outputs/evaluate-*/results.json")  # a directory per evaluation
    path = max(written, key=lambda found: found.stat().st_mtime)
    assert "<html" in path.with_name("report.html").read_text()
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def rows_of(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        row | {"protocol": result["protocol"]}
        for result in results["results"]
        for row in result["rows"]
    ]


@pytest.fixture(scope="module")
def beside_svg(work_dir: Path) -> dict[str, Any]:
    """Somebody's videos and SVG-LP on RGB under one protocol; `evaluation-synthetic:v0`."""
    folder = f"evaluate.predictions=folder:{work_dir / 'theirs'}"
    return evaluate(work_dir, folder, "evaluate.svg_rgb=svg_rgb-synthetic:latest")


def test_svg_rgb_rolls_out_in_rgb(work_dir: Path) -> None:
    store = LocalStore(work_dir / "artifacts")
    artifact = store.fetch("svg_rgb-synthetic", ArtifactType.VIDEOS)
    assert [a.name for a in store.lineage(artifact.reference)] == [
        "svg_rgb-synthetic", "svg_rgb-synthetic-checkpoint", "clips-synthetic",
    ]  # fmt: skip
    videos = VideoSet(artifact.path)
    assert [video.kind for video in videos.clips] == ["sample"] * 2
    frames = np.stack(list(videos.frames(videos.clips[0])))
    assert frames.shape == (3 + HORIZON, 64, 64, 3)
    assert frames[3:].std() > 0


def test_anybodys_videos_are_measured_beside_svg_rgb_under_one_protocol(
    beside_svg: dict[str, Any],
) -> None:
    rows = rows_of(beside_svg)
    systems = {"image model", "SVG-LP on RGB", "copy last frame"}
    for metric in ("psnr", "ssim"):
        found = [r for r in rows if (r["metric"], r["window"]) == (metric, "all")]
        assert {row["system"] for row in found} == systems
        assert all(np.isfinite(row["value"]) for row in found)
    (protocol,) = {json.dumps(row["protocol"]) for row in rows}
    assert json.loads(protocol)["horizon"] == HORIZON
    assert json.loads(protocol)["seed"] is None
    theirs, svg_rgb = json.loads(protocol)["artifacts"]
    assert re.fullmatch(r"folder:theirs \(sha256 [0-9a-f]{16}\)", theirs)  # below work_dir
    assert svg_rgb == "svg_rgb-synthetic:v0"
    assert json.loads(protocol)["checkpoints"] == ["svg_rgb-synthetic-checkpoint:v0"]
    missing = {item["what"]: item["command"] for item in beside_svg["not_computed"]}
    assert "evaluate.predictions=folder:" in missing["LPIPS"]
    assert missing["RGB of true labels"] == ""
    (of_labels,) = (what for what in missing if what.startswith("mIoU, pixel accuracy"))
    assert "Posterior reconstruction, NLL, KL, FVD of labels" in of_labels


def test_what_is_published_names_no_path_of_this_machine(
    work_dir: Path, beside_svg: dict[str, Any]
) -> None:
    published = [
        path
        for path in (work_dir / "artifacts").rglob("*")
        if path.suffix in (".json", ".html", ".csv") and path.is_file()
    ]
    assert {"report.html", "results.json", "artifact.json"} <= {path.name for path in published}
    for path in published:
        assert str(work_dir) not in path.read_text(encoding="utf-8"), path
    (page,) = (path for path in published if path.name == "report.html")
    text = page.read_text(encoding="utf-8")
    assert "evaluate.predictions=folder:theirs" in text
    assert "output_dir: outputs/evaluate-synthetic-" in text
    assert "data_dir: data\n" in text


def test_the_report_shows_svg_rgb_beside_the_samples(
    work_dir: Path, beside_svg: dict[str, Any]
) -> None:
    page = LocalStore(work_dir / "artifacts").fetch("evaluation-synthetic:v0").path / "report.html"
    titles = re.findall(r'<div class="titles">(.*?)</div>', page.read_text(encoding="utf-8"))
    assert titles
    assert all(title.endswith("<span>SVG-LP on RGB</span>") for title in titles)


@needs_real_data
def test_fvd_along_the_rollout_with_the_real_network(work_dir: Path) -> None:
    folder = f"evaluate.predictions=folder:{work_dir / 'theirs'}"
    results = evaluate(work_dir, folder, f"evaluate.i3d={I3D}", f"evaluate.lpips={ALEXNET}")
    rows = rows_of(results)
    fvd = {row["system"]: row for row in rows if row["metric"] == "fvd"}
    assert set(fvd) == {"image model", "copy last frame"}
    assert 0 < fvd["copy last frame"]["value"] < fvd["image model"]["value"]  # a moving pattern
    sliding = [r for r in rows if (r["metric"], r["system"]) == ("sliding_fvd", "image model")]
    assert [(row["first_step"], row["last_step"]) for row in sliding] == [(1, 16), (17, 32)]
    for row in (*fvd.values(), *sliding):
        assert row["value"] > 0
        assert row["protocol"]["metric_window"] == 16
        assert row["protocol"]["feature_network"].startswith("I3D Kinetics-400 logits (sha256 ")
        assert (row["protocol"]["n_clips"], row["protocol"]["context_included"]) == (2, False)
    lpips = next(row for row in rows if row["metric"] == "lpips")
    assert lpips["protocol"]["feature_network"].startswith("LPIPS 0.1 alex (sha256: backbone ")


OWN = "+evaluate.measures.mine={_target_:tests.helpers.own_measures.Brightness,gain:2}"


def test_a_measure_of_somebody_else_needs_a_config_key_alone(
    work_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, read, drawn = work_dir / "theirs", list[Path](), list[Path]()
    for module, name, calls in ((folder, "file_digest", read), (panels, "write_mp4", drawn)):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name,
            lambda path, *args, real=real, calls=calls, **how: (
                calls.append(path) or real(path, *args, **how)
            ),
        )  # fmt: skip
    results = evaluate(
        work_dir, f"evaluate.predictions=folder:{theirs}", OWN, "evaluate.clips_shown=2",
        "evaluate.measures.image_likeness=null", "logger=[csv,tensorboard]",
    )  # fmt: skip
    assert sorted(read) == sorted(p for p in theirs.rglob("*") if p.is_file())  # each once
    assert [path.name for path in drawn] == ["0.mp4", "1.mp4"]  # one for each clip shown

    (result,) = results["results"]
    assert result["metrics"] == [
        {
            "name": "brightness", "title": "brightness error", "unit": "levels", "decimals": 2,
            "channel": "frames", "kind": "curve", "higher_is_better": False,
            "explanation": "Brightness error is the difference of the mean grey levels.",
        }
    ]  # fmt: skip
    value = next(
        r["value"] for r in rows_of(results) if (r["system"], r["window"]) == ("image model", "all")
    )
    assert value > 0
    assert set(result["best_samples"]["brightness"].values()) == {0}
    table = capsys.readouterr().out
    assert "brightness" in table
    assert f"{value:.2f}" in table
    written = max(work_dir.glob("outputs/evaluate-*/report.html"), key=lambda p: p.stat().st_mtime)
    page = written.read_text(encoding="utf-8")
    assert "brightness error in levels, one sample" in page
    assert 'aria-label="brightness error in levels against the predicted step"' in page
    assert "Brightness error is the difference of the mean grey levels." in page
    assert "Lower is better: brightness error." in page
    assert "The best sample is the best by brightness error." in page
    for number in range(2):
        video = (written.parent / "samples" / f"{number}.mp4").read_bytes()
        assert base64.b64encode(video).decode() in page
    (board,) = written.parent.glob("tensorboard/*")
    events = EventAccumulator(str(board))
    events.Reload()
    key = "evaluation/brightness/image_model/mean/all"
    assert events.Scalars(key)[0].value == pytest.approx(value)
    assert "evaluation/horizon/brightness" in events.Tags()["images"]


def test_a_measure_that_cannot_be_imported_ends_before_any_work(work_dir: Path) -> None:
    missing = "+evaluate.measures.mine={_target_:nowhere.Mine}"
    with pytest.raises(SystemExit, match=r"evaluate\.measures\.mine\._target_=nowhere\.Mine"):
        run_here(*EVALUATE, missing, work_dir=work_dir)


def test_videos_are_made_anew_at_another_rate_when_forced(work_dir: Path) -> None:
    again = ("stage=svg_rgb", *TINY_SVG, "fit=false", "force=true", "video_fps=5.0")
    run_here(*WORLD, *again, work_dir=work_dir)
    artifact = LocalStore(work_dir / "artifacts").fetch("svg_rgb-synthetic", ArtifactType.VIDEOS)
    assert VideoSet(artifact.path).header.fps == 5.0
    assert artifact.reference == "svg_rgb-synthetic:v1"


def test_two_evaluations_side_by_side(work_dir: Path, beside_svg: dict[str, Any]) -> None:
    own = "+evaluate.measures.road={_target_:tests.helpers.own_measures.RoadShare}"
    other = evaluate(work_dir, f"evaluate.predictions=folder:{work_dir / 'other'}", own)
    assert {"miou", "class_drift", "psnr"} <= {row["metric"] for row in rows_of(other)}
    # The baseline that a measure brings is measured by all.
    of_road = {r["metric"]: r["value"] for r in rows_of(other) if r["system"] == "all road"}
    assert of_road["road"] == 100
    assert {"miou", "class_drift"} <= set(of_road)
    published = LocalStore(work_dir / "artifacts").fetch("evaluation-synthetic").reference
    names = f"evaluate.compare=[evaluation-synthetic:v0,{published}]"
    run_here(*EVALUATE, names, work_dir=work_dir)
    (page,) = work_dir.glob("outputs/evaluate-*/compare.html")
    text = page.read_text()
    assert all(name in text for name in ("evaluation-synthetic:v0", published))
    values = [
        next(r["value"] for r in rows_of(results)
             if (r["system"], r["metric"], r["window"]) == ("image model", "psnr", "all"))
        for results in (beside_svg, other)
    ]  # fmt: skip
    assert all(f"{value:.2f}" in text for value in values)
    assert "road share in %" in text
