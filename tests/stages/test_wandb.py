"""W&B through run.py: both stages in processes of their own, and the dashboard."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts.wandb_jobs import environment, sync
from tests.helpers.commands import ROOT, SMALL
from tests.wandb_server import WandbServer

EVERY_STEP = ("trainer.log_every_n_steps=1", "trainer.val_check_interval=2")
LOGGED = {"train/loss", "val/loss", "gradient_norm", "lr-Adam", "speed/clips", "speed/frames",
          "val/miou", "val/pixel_accuracy"}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WandbServer]:
    with WandbServer(tmp_path / "server") as running:
        yield running


def run(server: WandbServer, work_dir: Path, *overrides: str) -> str:
    command = [sys.executable, "run.py", *SMALL, *EVERY_STEP, *overrides, f"work_dir={work_dir}"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(server) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_stage_two_gets_its_predictions_from_wandb(server: WandbServer, tmp_path: Path) -> None:
    wandb = ("artifacts=wandb", "logger=[csv,wandb]")
    printed = run(server, tmp_path / "one", "stage=structure", "aliases=[best]", *wandb)
    assert "published emu/hvp/structure-synthetic:v0" in printed
    assert "wandb:" not in printed
    assert "GPU available" not in printed  # nor does Lightning talk
    predictions = "predictions=emu/hvp/structure-synthetic:best"
    printed = run(server, tmp_path / "two", "stage=image", "model.image.max_steps=2", predictions,
                  *wandb)  # fmt: skip
    assert "published emu/hvp/image-synthetic:v0" in printed

    structure, image = server.runs.values()
    names = {i: a["collection"]["name"] for i, a in server.artifacts.items()}
    made = {names[i] for i in structure["outputs"]}
    assert made >= {"clips-synthetic", "structure-synthetic-checkpoint", "structure-synthetic"}
    assert {names[i] for i in image["inputs"]} == {"clips-synthetic", "structure-synthetic"}
    assert {"image-synthetic-checkpoint", "image-synthetic"} <= {names[i] for i in image["outputs"]}
    for published in (structure, image, *server.artifacts.values()):
        assert str(tmp_path) not in json.dumps([published.get("config"), published.get("metadata")])
    assert json.loads(structure["config"])["work_dir"]["value"] == "."
    rows = [json.loads(line) for line in structure["history"]]
    assert set().union(*rows) >= LOGGED
    for figure in ("samples/validation", "horizon/miou", "confusion/validation"):
        assert any(key.startswith(figure) for row in rows for key in row), figure
    assert any(name.endswith(".mp4") for name in stored_files(server, structure["id"]))
    assert {structure["jobType"], image["jobType"]} == {"structure", "image"}
    csv = next((tmp_path / "one").glob("outputs/*/csv/*/metrics.csv")).read_text()
    assert set(csv.splitlines()[0].split(",")) >= LOGGED
    assert not server.missing
    assert not server.unhandled()


@pytest.mark.slow
def test_the_pipeline_hands_everything_over_at_wandb(server: WandbServer, tmp_path: Path) -> None:
    wandb = ("artifacts=wandb", "logger=[csv,wandb]", "model.image.max_steps=2")
    run(server, tmp_path, *wandb)
    by_type = {found["jobType"]: found for found in server.runs.values()}
    assert set(by_type) == {"prepare", "structure", "image", "evaluate"}
    assert len(server.runs) == 4
    names = {i: a["collection"]["name"] for i, a in server.artifacts.items()}
    evaluate = by_type["evaluate"]
    assert {"structure-synthetic", "image-synthetic"} <= {names[i] for i in evaluate["inputs"]}
    assert "evaluation-synthetic" in {names[i] for i in evaluate["outputs"]}
    logged = set().union(*map(json.loads, evaluate["history"]))
    assert "evaluation/miou/structure_model/mean/all" in logged
    assert "evaluation/class_drift/structure_model/mean/all" in logged
    for figure in ("horizon/class_drift", "confusion/structure_model", "samples"):
        assert any(key.startswith(f"evaluation/{figure}") for key in logged), figure
    again = run(server, tmp_path, *wandb)
    assert again.count("done for these settings, emu/hvp/") == 4
    assert not server.missing
    assert not server.unhandled()


@pytest.mark.slow
def test_a_pipeline_outlives_its_server_and_is_sent_later(
    server: WandbServer, tmp_path: Path
) -> None:
    arguments = ("logger=[csv,wandb]", "model.image.max_steps=2", f"work_dir={tmp_path}")
    pipeline = subprocess.Popen(
        [sys.executable, "run.py", *SMALL, *arguments],
        cwd=ROOT,
        env=environment(server) | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert pipeline.stdout is not None
    printed = ""
    for line in pipeline.stdout:
        printed += line
        if server.running and "published emu/hvp/structure-synthetic:v0" in line:
            server.stop()
    assert pipeline.wait() == 0, printed[-3000:]
    assert "published image-synthetic:v0" in printed  # kept here
    server.start()
    for stage in ("structure", "image", "evaluate"):
        (output_dir,) = tmp_path.glob(f"outputs/{stage}-*")
        sent = sync(server, output_dir)
        assert sent.returncode == 0, sent.stdout + sent.stderr
    names = {a["collection"]["name"] for a in server.artifacts.values()}
    assert {"image-synthetic", "evaluation-synthetic"} <= names
    assert not server.missing
    assert not server.unhandled()


def stored_files(server: WandbServer, run_id: str) -> set[str]:
    """Names of the files in all artifacts of a run: Tables are artifacts of their own."""
    run = server.runs[run_id]
    names = {f for i in run["outputs"] for f in server.entries(server.artifacts[i])}
    return names | set(run["files"])


def test_the_dashboard_is_made_once_and_then_updated(server: WandbServer, tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    own = "+evaluate.measures.mine={_target_:tests.helpers.own_measures.Brightness,gain:1}"
    for overrides in ((), (own, "evaluate.measures.fid=null")):
        assert "dashboard http" in run(server, tmp_path, "stage=dashboard", *overrides)
    (view,) = server.views.values()
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    names = [section["name"] for section in sections]
    assert names[:3] == ["Stage one: structure", "Stage two: image", "Evaluation"]
    assert all(section["panels"] for section in sections[:3])
    charts = json.dumps(sections[2])  # of the measures of the config
    assert "evaluation/horizon/miou" in charts
    assert "evaluation/horizon/brightness" in charts
    assert "evaluation/confusion/structure_model" in charts
    assert "evaluation/horizon/fid" not in charts
    assert not server.missing
    assert not server.unhandled()


def test_the_dashboard_without_its_extra_says_what_to_install(
    server: WandbServer, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "wandb_workspaces").mkdir(parents=True)
    (hidden / "wandb_workspaces" / "__init__.py").write_text(
        "raise ModuleNotFoundError('hidden', name='wandb_workspaces')"
    )
    done = subprocess.run(
        [sys.executable, "run.py", "stage=dashboard", f"work_dir={tmp_path}"],
        cwd=ROOT,
        env=environment(server) | {"PYTHONPATH": os.fspath(hidden)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "hvp[dashboards]" in done.stderr
    assert "Traceback" not in done.stderr
