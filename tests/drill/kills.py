"""Kill a small run at random moments, and compare what it publishes with an uninterrupted one."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hvp.artifacts.local import LocalStore
from hvp.artifacts.predictions import PredictionSet
from hvp.artifacts.store import Artifact, ArtifactType
from hvp.artifacts.videos import VideoSet
from hvp.evaluation.results import load_results
from hvp.training.weights import CHECKPOINT_FILE, read_checkpoint
from tests.drill.tally import Tally
from tests.helpers.commands import ROOT, SMALL

PIPELINE = (*SMALL, "stage=pipeline", "callbacks.checkpoint.every_n_batches=1")
STRUCTURE = (
    *SMALL, "stage=structure", "callbacks.checkpoint.every_n_batches=2",
    "model.structure.max_steps=30",
)  # fmt: skip
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def kill_and_go_on(
    root: Path, seed: int, kills: int, tally: Tally, command: Sequence[str] = PIPELINE
) -> None:
    """Send signals to a run, each at a random moment of another start, then let it end.

    Args:
        root: directory of the runs.
        seed: of moments and signals.
        kills: number of signals; every fourth start is left to end.
        tally: counts what came of each.
        command: the run.
    """
    rng = np.random.default_rng(seed)
    began = time.monotonic()
    status, said = run(command, root / "uninterrupted")
    assert status == 0, said
    seconds = time.monotonic() - began
    expected = published(root / "uninterrupted")
    for series in range(0, kills, 4):
        work_dir = root / f"killed-{series}"
        outcomes = []
        for _ in range(min(4, kills - series)):
            number = SIGNALS[int(rng.integers(len(SIGNALS)))]
            moment = float(rng.uniform(0.5, seconds))
            before = finished(work_dir)
            status, said = run(command, work_dir, number, moment)
            lost = before - finished(work_dir)
            what = f"{number.name} after {moment:.1f} s: status {status}: {said[-1500:]}"
            allowed = (0, -number, 128 + number)
            bad = "lost" if lost else "raw" if "Traceback" in said or status not in allowed else ""
            outcomes.append((number, bad, what))
        status, said = run(command, work_dir)
        same = status == 0 and published(work_dir) == expected
        for number, bad, what in outcomes:
            at_end = "harmless" if same else "silent" if status == 0 else "lost"
            tally.add(f"{number.name} of a run", bad or at_end, f"{what}\n{said[-1500:]}")


def run(
    command: Sequence[str], work_dir: Path, number: int | None = None, after: float = 0.0
) -> tuple[int, str]:
    """Run run.py, its process group signalled after some seconds; exit status and output."""
    process = subprocess.Popen(
        [sys.executable, "run.py", *command, f"work_dir={work_dir}"],
        cwd=ROOT, env=os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        if number is not None:
            try:
                said, _ = process.communicate(timeout=after)
                return process.returncode, said
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


def published(work_dir: Path) -> dict[str, object]:
    """Content of the newest version of every artifact, as what compares."""
    store = LocalStore(work_dir / "artifacts")
    names = sorted(path.name for path in store.root.glob("[!.]*"))
    return {name: content(store.fetch(f"{name}:latest")) for name in names}


def content(artifact: Artifact) -> object:
    """Weights, samples, frames or numbers of an artifact."""
    if artifact.type is ArtifactType.CHECKPOINT:
        state = read_checkpoint(artifact.path / CHECKPOINT_FILE)["state_dict"]
        return {name: tensor.numpy().tobytes() for name, tensor in state.items()}
    if artifact.type is ArtifactType.PREDICTIONS:
        return [(clip, samples.tobytes()) for clip, samples in PredictionSet(artifact.path)]
    if artifact.type is ArtifactType.VIDEOS:
        videos = VideoSet(artifact.path)
        return [(v, [f.tobytes() for f in videos.frames(v)]) for v in videos.clips]
    if artifact.type is ArtifactType.EVALUATION:
        return repr(load_results(artifact.path / "results.json"))
    return sorted(artifact.files)


def finished(work_dir: Path) -> set[str]:
    """Work that a later start must still find: versions, predicted clips, recordings.

    Of checkpoints the number of steps: older ones may go once there is a newer one.
    """
    versions = [str(path) for path in work_dir.glob("artifacts/[!.]*/v*/artifact.json")]
    recordings = [str(path) for path in work_dir.glob("data/**/[!.]*.npy")]
    steps = [
        f"{path.parent} at step {step}"
        for path in work_dir.glob("outputs/*/checkpoints/batch-*.ckpt")
        for step in range(int(re.findall(r"\d+", path.stem)[-1]) + 1)
    ]
    return {*versions, *recordings, *steps}
