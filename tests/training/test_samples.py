"""Validation preview callback: logs samples and does not change the training."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from hvp.artifacts.local import LocalStore
from tests.helpers.commands import SMALL, run_here


def weights(work_dir: Path, stage: str) -> dict[str, Tensor]:
    artifact = LocalStore(work_dir / "artifacts").fetch(f"{stage}-synthetic-checkpoint")
    return torch.load(artifact.path / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("stage", ["structure", "image"])
def test_samples_after_every_step_leave_the_weights_as_they_are(stage: str, tmp_path: Path) -> None:
    arguments = (
        *SMALL, f"stage={stage}", "predict=false", "trainer.val_check_interval=1",
        "callbacks.progress=null", "logger=[tensorboard]", f"model.{stage}.max_steps=2",
    )  # fmt: skip
    run_here(*arguments, work_dir=tmp_path / "with")
    run_here(*arguments, "callbacks.samples=null", work_dir=tmp_path / "without")
    shown, hidden = (weights(tmp_path / name, stage) for name in ("with", "without"))
    for name, value in shown.items():
        assert torch.equal(value, hidden[name]), name
    assert list(tmp_path.glob("with/outputs/*/samples/0.mp4"))
    assert not list(tmp_path.glob("without/outputs/*/samples"))
    if stage == "structure":
        (folder,) = tmp_path.glob("with/outputs/*/tensorboard/version_0")
        events = EventAccumulator(str(folder))
        events.Reload()
        assert {"horizon/miou", "confusion/validation"} <= set(events.Tags()["images"])
