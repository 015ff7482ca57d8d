"""docs/extending.md: its code runs through the pipeline, from outside of the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hvp.artifacts.local import LocalStore
from tests.helpers.commands import ROOT

PAGE = ROOT / "docs" / "extending.md"
BLOCK = re.compile(r'^```\w+ title="(?P<path>[^"]+)"\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)
OWN = ("dataset=squares", "model/structure=next_frame", "model/image=painter",
       "evaluate/measures=own", "trainer=cpu",
       "trainer.limit_val_batches=1", "evaluate.clips_shown=1", "logger=[csv]")  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file of the page."""
    folder = tmp_path_factory.mktemp("extending")
    blocks = list(BLOCK.finditer(PAGE.read_text(encoding="utf-8")))
    assert len(blocks) >= 9
    for block in blocks:
        path = folder / block["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block["text"], encoding="utf-8")
    return folder


def run_own(here: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "--config-dir", "my_conf", *OWN, *overrides],
        cwd=here,
        env=os.environ | {"COLUMNS": "200", "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
        timeout=400,
    )


@pytest.fixture(scope="module")
def road(here: Path) -> str:
    """What the pipeline printed."""
    done = run_own(here)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_own_dataset_models_and_metric_go_the_whole_road(here: Path, road: str) -> None:
    store = LocalStore(here / "artifacts")
    evaluation = store.fetch("evaluation-squares")
    names = {artifact.name for artifact in store.lineage(evaluation.reference)}
    assert names == {
        "evaluation-squares", "structure-squares", "structure-squares-checkpoint", "image-squares",
        "image-squares-checkpoint", "clips-squares",
    }  # fmt: skip
    results = json.loads((evaluation.path / "results.json").read_text())
    systems = {curve["system"] for result in results["results"] for curve in result["curves"]}
    assert {"structure model", "image model"} <= systems
    assert "brightness error" in road
    page = (evaluation.path / "report.html").read_text()
    assert "brightness error in grey levels" in page
    assert "NLL" in page  # which needs a posterior that the model has not: listed as not computed
    assert "NLL" not in road.partition("steps")[2].partition("report")[0]


def test_same_command_again_does_nothing_again(here: Path, road: str) -> None:
    again = run_own(here)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stdout.count("done for these settings") == 4


def test_own_stage_reads_what_the_others_published(here: Path, road: str) -> None:
    done = run_own(here, "stage=count")
    assert done.returncode == 0, done.stderr[-3000:]
    shares = [
        float(share) for share in re.findall(r"^(?:floor|square): ([\d.]+)%", done.stdout, re.M)
    ]
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_checkpoint_alone_predicts(here: Path, road: str) -> None:
    """Without the model's settings; with other ones, it says whose it has."""
    base = [arg for arg in OWN if not arg.startswith("model/structure")]
    command = [sys.executable, str(ROOT / "run.py"), "--config-dir", "my_conf", *base,
               "stage=structure", "fit=false", "seed=5",
               "checkpoint=structure-squares-checkpoint:latest"]  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(here)}
    done = subprocess.run(
        command, cwd=here, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "published structure-squares:v1" in done.stdout
    done = run_own(here, *command[-4:], "model.structure.module.width=9")
    assert done.returncode == 1
    assert "model.structure.module.width=9: the checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
