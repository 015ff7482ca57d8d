"""End of training: schedules, final validation, metrics, best checkpoint."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from hvp.artifacts.local import LocalStore
from hvp.artifacts.publication import Publication
from hvp.artifacts.store import Artifact
from tests.helpers.commands import SMALL, run_here

FIT = (*SMALL, "predict=false", "callbacks.progress=null", "callbacks.samples=null")
STRUCTURE = (*FIT, "stage=structure")


def fitted(work_dir: Path, stage: str = "structure", version: str = "latest") -> Artifact:
    store = LocalStore(work_dir / "artifacts")
    return store.fetch(f"{stage}-synthetic-checkpoint:{version}")


def content(artifact: Artifact) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(artifact.path / "last.ckpt", weights_only=True)
    return loaded


@pytest.mark.parametrize("max_steps", [1, 2, 5])
def test_schedule_and_validation_follow_the_steps_that_are_given(
    max_steps: int, tmp_path: Path
) -> None:
    """More and fewer steps than the model's default of three; less than the validation interval."""
    run_here(*STRUCTURE, f"trainer.max_steps={max_steps}", work_dir=tmp_path)
    artifact = fitted(tmp_path)
    assert artifact.metadata["global_step"] == max_steps
    assert "val/loss" in artifact.metadata["metrics"]
    (schedule,) = content(artifact)["lr_schedulers"]
    assert schedule["total_steps"] == schedule["last_epoch"] == max_steps


def test_epochs_end_the_schedule_too(tmp_path: Path) -> None:
    run_here(
        *STRUCTURE, "trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.limit_train_batches=2",
        work_dir=tmp_path,
    )  # fmt: skip
    (schedule,) = content(fitted(tmp_path))["lr_schedulers"]
    assert schedule["total_steps"] == schedule["last_epoch"] == 4


def test_a_step_of_stage_two_is_one_chunk(tmp_path: Path) -> None:
    run_here(*FIT, "stage=image", "trainer.max_steps=3", work_dir=tmp_path)
    artifact = fitted(tmp_path, "image")
    assert artifact.metadata["global_step"] == 3
    states = content(artifact)["optimizer_states"]
    assert [max(int(s["step"]) for s in state["state"].values()) for state in states] == [3, 3]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_checkpoint_is_published_where_a_metric_is_monitored(
    mode: str, tmp_path: Path
) -> None:
    run_here(
        *STRUCTURE, "trainer.max_steps=6", "trainer.val_check_interval=1",
        "callbacks.checkpoint.monitor=val/loss", f"callbacks.checkpoint.mode={mode}",
        work_dir=tmp_path,
    )  # fmt: skip
    (log,) = tmp_path.glob("outputs/*/csv/*/metrics.csv")
    with log.open(newline="") as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert len(losses) == 6
    pick = min if mode == "min" else max
    artifact = fitted(tmp_path)
    assert artifact.metadata["metrics"]["val/loss"] == pytest.approx(pick(losses), rel=1e-5)
    assert artifact.metadata["global_step"] == losses.index(pick(losses)) + 1


def test_metrics_survive_a_kill_after_the_last_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: Any, **kwargs: Any) -> None:
        raise InterruptedError("killed before it has published")

    with monkeypatch.context() as patch:
        patch.setattr(Publication, "publish", killed)
        with pytest.raises((InterruptedError, SystemExit)):
            run_here(*STRUCTURE, work_dir=tmp_path)
    run_here(*STRUCTURE, work_dir=tmp_path)
    run_here(*STRUCTURE, work_dir=tmp_path / "straight")
    assert fitted(tmp_path).metadata["metrics"] == fitted(tmp_path / "straight").metadata["metrics"]
    assert "val/loss" in fitted(tmp_path).metadata["metrics"]


def test_a_checkpoint_to_start_from_counts_by_what_it_holds(tmp_path: Path) -> None:
    run_here(*STRUCTURE, "seed=3", work_dir=tmp_path)
    start = "checkpoint=structure-synthetic-checkpoint:v0"
    longer = ("trainer.max_steps=5", start)
    run_here(*STRUCTURE, *longer, work_dir=tmp_path)
    artifact = fitted(tmp_path)
    assert "structure-synthetic-checkpoint:v0" in artifact.inputs
    digest = artifact.metadata["settings_digest"]
    file = tmp_path / "mine.ckpt"
    file.write_bytes((fitted(tmp_path, version="v0").path / "last.ckpt").read_bytes())
    run_here(*STRUCTURE, longer[0], f"checkpoint={file}", work_dir=tmp_path)
    assert fitted(tmp_path).metadata["settings_digest"] == digest  # the same bytes: found
    assert fitted(tmp_path).version == artifact.version
    (schedule,) = content(artifact)["lr_schedulers"]
    assert schedule["total_steps"] == schedule["last_epoch"] == 5


def test_a_finished_checkpoint_gives_its_weights_to_a_new_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_here(*STRUCTURE, "seed=3", work_dir=tmp_path)
    run_here(*STRUCTURE, "checkpoint=structure-synthetic-checkpoint:v0", work_dir=tmp_path)
    assert "starting from the weights of" in capsys.readouterr().out
    first, second = (content(fitted(tmp_path, version=v)) for v in ("v0", "v1"))
    assert second["global_step"] == first["global_step"] == 3
    weights = [c["state_dict"]["network.decoder.classes.weight"] for c in (first, second)]
    assert not torch.equal(*weights)


def test_checkpoints_of_another_training_are_never_gone_on_with(tmp_path: Path) -> None:
    place = f"output_dir={tmp_path / 'mine'}"
    run_here(*STRUCTURE, place, work_dir=tmp_path)
    with pytest.raises(SystemExit, match="belongs to a training with other settings"):
        run_here(*STRUCTURE, place, "seed=2", work_dir=tmp_path)
    run_here(*STRUCTURE, place, "seed=2", "force=true", work_dir=tmp_path)
    assert fitted(tmp_path).version == "v1"


def test_a_metric_to_monitor_that_is_not_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"callbacks\.checkpoint\.monitor=val/speed"):
        run_here(*STRUCTURE, "callbacks.checkpoint.monitor=val/speed", work_dir=tmp_path)


def test_predictions_to_translate_are_asked_for_before_training(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no label predictions to translate"):
        run_here(*SMALL, "stage=image", work_dir=tmp_path)
    assert not list(tmp_path.glob("outputs/*/checkpoints"))


def test_a_length_at_which_the_schedule_has_an_empty_phase_trains(tmp_path: Path) -> None:
    run_here(*STRUCTURE, "trainer.max_steps=20", work_dir=tmp_path)
    assert fitted(tmp_path).metadata["global_step"] == 20


def test_validation_by_epochs_comes_at_the_end_too(tmp_path: Path) -> None:
    every = ("trainer.check_val_every_n_epoch=3", "trainer.limit_train_batches=2")
    run_here(*STRUCTURE, *every, "trainer.max_steps=5", work_dir=tmp_path)
    assert "val/loss" in fitted(tmp_path).metadata["metrics"]


def test_a_dry_run_publishes_nothing(tmp_path: Path) -> None:
    run_here(*SMALL, "stage=structure", "trainer.fast_dev_run=true", work_dir=tmp_path)
    assert not list(tmp_path.glob("artifacts/structure-*"))


def test_a_checkpoint_with_a_best_value_starts_a_training_that_has_its_own(tmp_path: Path) -> None:
    policy = ("callbacks.checkpoint.mode=min", "trainer.val_check_interval=1")
    run_here(
        *STRUCTURE, *policy, "callbacks.checkpoint.monitor=val/loss", "aliases=[parent]",
        work_dir=tmp_path,
    )  # fmt: skip
    start = "checkpoint=structure-synthetic-checkpoint:parent"
    run_here(
        *STRUCTURE, *policy, start, "callbacks.checkpoint.monitor=val/kl", "trainer.max_steps=4",
        work_dir=tmp_path,
    )  # fmt: skip
    assert fitted(tmp_path).version == "v1"
    assert content(fitted(tmp_path))["global_step"] <= 4
