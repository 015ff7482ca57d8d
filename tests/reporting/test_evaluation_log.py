"""What the evaluation tells W&B and TensorBoard, through the real loggers."""

import json
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.artifacts.wandb_jobs import end, start
from tests.wandb_server import WandbServer

JOB = """
    from dataclasses import asdict
    import numpy as np
    from hvp.evaluation.curves import BEST, MEAN, Curve, Series
    from hvp.evaluation.systems import COPY_LAST, STRUCTURE_MODEL
    from hvp.evaluation.metric import MetricInfo
    from hvp.reporting.loggers import build_loggers
    from hvp.reporting.panels import ClipPanel, Stream, write_clip_videos
    from hvp.evaluation.protocol import Protocol
    from hvp.evaluation.results import Evaluation, Result, load_results, save_results
    from hvp.labels import LabelSpace
    from hvp.reporting.evaluation_log import log_evaluation

    protocol = Protocol("toy", "test", 16, 16, 1, 1, 2, 1, 3, 2, None)
    counts = np.array([1, 1, 0])
    miou = [Curve(system, "miou", aggregate, np.array([first, 0.5, np.nan]), counts)
            for system, first in ((STRUCTURE_MODEL, 0.7), (COPY_LAST, 0.6))
            for aggregate in (MEAN, BEST)]
    points = np.array([1, 2]), np.array([2, 3]), np.array([2, 2]), 2
    windowed = [Series(STRUCTURE_MODEL, "sliding_fvd", np.array([10.0, 30.0]), *points),
                Series(STRUCTURE_MODEL, "class_drift", np.array([0.1, 0.3]), *points),
                Series(STRUCTURE_MODEL, "fvd", np.array([20.0]), *(p[:1] for p in points[:3]), 2)]
    confusion = {STRUCTURE_MODEL: np.array([[7, 2, 1], [0, 5, 0]]),
                 COPY_LAST: np.array([[1, 9, 0], [5, 0, 0]])}
    metrics = (MetricInfo("miou", "mIoU", "labels", "curve", higher_is_better=True),
               MetricInfo("sliding_fvd", "sliding FVD", "labels", "series"),
               MetricInfo("class_drift", "class drift", "labels", "series"),
               MetricInfo("fvd", "FVD", "labels", "number"))
    evaluation = Evaluation((Result(protocol, metrics, tuple(miou), tuple(windowed),
                                    confusion=confusion),))
    save_results(here / "results", evaluation)
    evaluation = load_results(here / "results" / "results.json")
    maps = [np.zeros((16, 16), np.uint8)] * 4
    panel = ClipPanel.arrange("a@0+1", Stream(maps), [Stream(maps), Stream(maps)], 0)
    recipes = {
        "csv": None,
        "wandb": {"_target_": "hvp.reporting.loggers.wandb_logger", "run": {
            "_target_": "hvp.artifacts.wandb.run.WandbRun", **asdict(settings(here))}},
        "tensorboard": {"_target_": "pytorch_lightning.loggers.TensorBoardLogger",
                        "save_dir": str(here), "name": "board"}}
    space = LabelSpace("two", ("road", "car"), ((1, 2, 3), (4, 5, 6)))
    with job({}):
        videos = write_clip_videos(here / "samples", [panel], space, 1, 2, 3, 10.0)
        log_evaluation(build_loggers(recipes), evaluation, space, videos)
    print("{}")
"""


def test_an_evaluation_reaches_wandb_and_tensorboard(tmp_path: Path) -> None:
    with WandbServer(tmp_path / "server") as server:
        end(start(server, tmp_path / "job", JOB))
        (run,) = server.runs.values()
        logged: dict[str, Any] = {}
        for line in run["history"]:
            logged |= json.loads(line)
        assert not server.missing
        assert not server.unhandled()
        assert logged["evaluation/miou/structure_model/mean/all"] == 0.6
        assert logged["evaluation/sliding_fvd/structure_model/mean/first"] == 10.0
        assert logged["evaluation/sliding_fvd/structure_model/mean/last"] == 30.0
        assert logged["evaluation/fvd/structure_model/mean/all"] == 20.0
        assert table(server, logged["evaluation/horizon/class_drift_table"]) == [
            ["structure model", 1.5, 0.1],
            ["structure model", 2.5, 0.3],
        ]
        assert len(table(server, logged["evaluation/horizon/miou_table"])) == 3 * 2  # lines, steps
        assert table(server, logged["evaluation/confusion/structure_model_table"]) == [
            ["road", "road", 7], ["road", "car", 2], ["car", "road", 0], ["car", "car", 5],
        ]  # fmt: skip
        assert "evaluation/confusion/copy_last_frame_table" in logged
        assert "evaluation/samples" in logged
    events = EventAccumulator(str(tmp_path / "job" / "board" / "version_0"))
    events.Reload()
    tags = events.Tags()
    assert "evaluation/horizon/sliding_fvd" in tags["images"]
    assert "evaluation/confusion/structure_model" in tags["images"]
    assert "evaluation/fvd/structure_model/mean/all" in tags["scalars"]


def table(server: WandbServer, logged: dict[str, Any]) -> list[list[Any]]:
    """The rows of a Table as they lie at the server."""
    name = logged["path"]
    for run in server.runs.values():
        if name in run["files"]:
            key = f"run/{run['id']}/{name}"
            return json.loads(server.blob(key).read_bytes())["data"]
    raise AssertionError(f"{name} is not at the server")
