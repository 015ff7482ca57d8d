"""Stage `pipeline` through run.py: artifacts, skipped stages, resume."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import ArtifactType
from hvp.artifacts.videos import VideoSet
from tests.helpers.commands import ROOT, SMALL, run_hvp, run_well


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The work directory and the output of one pipeline run."""
    work_dir = tmp_path_factory.mktemp("road")
    return work_dir, run_well(*SMALL, work_dir=work_dir)


def test_pipeline_ends_with_a_table_and_where_everything_lies(road: tuple[Path, str]) -> None:
    _, printed = road
    assert "mean of 2" in printed
    assert "PSNR" in printed
    report = re.search(r"report\s+(\S+report\.html)", printed)
    assert report is not None
    page = Path(report[1]).read_text()
    assert "data:video/mp4;base64," in page
    assert "python run.py stage=evaluate" in page
    results = json.loads(Path(report[1]).with_name("results.json").read_text())
    assert {c["system"] for r in results["results"] for c in r["curves"]} >= {
        "structure model",
        "copy last frame",
        "image model",
        "image model on ground-truth labels",
    }


def test_every_run_leaves_its_log_and_the_pipeline_that_of_all(road: tuple[Path, str]) -> None:
    work_dir, printed = road
    (whole,) = work_dir.glob("outputs/pipeline-*/run.log")
    log = whole.read_text()
    shown = [line for line in printed.splitlines() if "\r" not in line]
    assert set(shown) <= set(log.splitlines())
    for stage in ("prepare", "structure", "image", "evaluate"):
        (of_stage,) = work_dir.glob(f"outputs/{stage}-*/run.log")
        own = of_stage.read_text()
        assert f"name: {stage}" in own
        assert own.splitlines()[-1] in log
    assert log.count("output_dir:") == 1


def test_artifacts_know_what_they_were_made_from(road: tuple[Path, str]) -> None:
    store = LocalStore(road[0] / "artifacts")
    evaluation = store.fetch("evaluation-synthetic", ArtifactType.EVALUATION)
    ancestors = {a.name: a.type for a in store.lineage(evaluation.reference)}
    assert ancestors == {
        "evaluation-synthetic": ArtifactType.EVALUATION,
        "structure-synthetic": ArtifactType.PREDICTIONS,
        "structure-synthetic-checkpoint": ArtifactType.CHECKPOINT,
        "image-synthetic": ArtifactType.VIDEOS,
        "image-synthetic-checkpoint": ArtifactType.CHECKPOINT,
        "clips-synthetic": ArtifactType.DATASET,
    }


def test_videos_translate_the_predictions_that_stage_one_published(road: tuple[Path, str]) -> None:
    store = LocalStore(road[0] / "artifacts")
    predictions = PredictionSet(store.fetch("structure-synthetic").path)
    videos = VideoSet(store.fetch("image-synthetic").path)
    assert len(predictions) == 2
    assert videos.header.predictions == "structure-synthetic:v0"
    assert [v.kind for v in videos.clips] == ["sample", "sample", "oracle"] * 2
    for clip, samples in predictions:
        assert samples.shape == (2, 3 + 6, 64, 64)
        assert not np.array_equal(samples[0], samples[1])  # two futures, not one twice
        mine = [*videos.of(clip.clip, "sample"), *videos.of(clip.clip, "oracle")]
        frames = [np.stack(list(videos.frames(v))) for v in mine]
        assert {f.shape for f in frames[:2]} == {(9, 64, 64, 3)}
        assert 3 < len(frames[2]) <= 9  # the oracle ends where the recording does
        assert np.array_equal(frames[0][:3], frames[1][:3])  # the real context


def test_same_command_again_does_nothing_again(road: tuple[Path, str]) -> None:
    work_dir, _ = road
    before = sorted(p for p in (work_dir / "artifacts").rglob("*") if p.is_file())
    printed = run_well(*SMALL, work_dir=work_dir)
    assert printed.count("done for these settings") == 4
    assert "mean of 2" in printed
    assert sorted(p for p in (work_dir / "artifacts").rglob("*") if p.is_file()) == before


def test_predictions_alone_from_a_named_checkpoint(road: tuple[Path, str]) -> None:
    arguments = ["stage=structure", "fit=false", "dataset.rollout.samples=1"]
    checkpoint = "checkpoint=structure-synthetic-checkpoint:v0"
    printed = run_well(*SMALL, *arguments, checkpoint, work_dir=road[0])
    assert "published structure-synthetic:v1" in printed
    store = LocalStore(road[0] / "artifacts")
    predictions = PredictionSet(store.fetch("structure-synthetic:v1").path)
    first = PredictionSet(store.fetch("structure-synthetic:v0").path)
    for clip, other in zip(predictions.clips, first.clips, strict=True):
        # the noise of a sample does not depend on how many are drawn
        assert np.array_equal(predictions.samples(clip)[0], first.samples(other)[0])


def test_contradicting_artifacts_are_refused(road: tuple[Path, str]) -> None:
    other_data = [*SMALL, "stage=image", "fit=false", "dataset.datamodule.world_seed=5",
                  "force=true", "checkpoint=image-synthetic-checkpoint:v0"]  # fmt: skip
    done = run_hvp(*other_data, work_dir=road[0])
    assert done.returncode == 1
    assert "were made from other data" in done.stderr
    done = run_hvp(*SMALL, "stage=image", "predictions=structure-nowhere", work_dir=road[0])
    assert done.returncode == 1
    assert "structure-nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_prediction_without_training_says_what_is_missing(tmp_path: Path) -> None:
    done = run_hvp(*SMALL, "stage=structure", "fit=false", work_dir=tmp_path)
    assert done.returncode == 1
    assert "checkpoint=" in done.stderr


def test_killed_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    every_step = "callbacks.checkpoint.every_n_batches=1"
    arguments = [*SMALL, "stage=structure", "predict=false", "model.structure.max_steps=60"]
    arguments += [every_step, f"work_dir={tmp_path}"]
    command = [sys.executable, "run.py", *arguments]
    training = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _wait_for_checkpoint(tmp_path, training)
    finally:
        training.send_signal(signal.SIGKILL)
        training.wait()
    printed = run_well(*arguments)
    assert "going on from" in printed
    artifact = LocalStore(tmp_path / "artifacts").fetch("structure-synthetic-checkpoint")
    assert artifact.metadata["global_step"] == 60


def _wait_for_checkpoint(work_dir: Path, training: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert training.poll() is None, "training ended before it could be killed"
        if list(work_dir.glob("outputs/*/checkpoints/batch-*.ckpt")):
            return
        time.sleep(0.05)
    pytest.fail("no checkpoint appeared")
