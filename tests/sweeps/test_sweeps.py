"""Sweeps through run.py: grid and Optuna search, resume, pruning, failed jobs, W&B."""

import csv
import json
import signal
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import ArtifactType
from hvp.errors import DataError
from hvp.files import settings_digest, write_json
from hvp.sweeps.overview import _print, best_job, varied_keys, write_csv
from hvp.sweeps.record import JobRecord, read_records
from tests.artifacts.wandb_jobs import environment
from tests.helpers.commands import SMALL, run_here, run_hvp, run_well
from tests.wandb_server import WandbServer

TRAIN = (*SMALL, "stage=structure", "predict=false", "trainer.val_check_interval=1",
         "callbacks.progress=null", "callbacks.samples=null")  # fmt: skip


def sweep_dir(work_dir: Path) -> Path:
    (found,) = (work_dir / "outputs").glob("sweep-*")
    return found


def overview(directory: Path) -> list[dict[str, str]]:
    with (directory / "overview.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states(directory: Path) -> list[str]:
    return [record.state for record in read_records(directory)]


def metrics_of(work_dir: Path, digest: str) -> dict[str, float]:
    found = LocalStore(work_dir / "artifacts").find(
        "structure-synthetic-checkpoint", ArtifactType.CHECKPOINT, digest
    )
    assert found is not None
    metrics: dict[str, float] = found.metadata["metrics"]
    return metrics


def test_a_killed_grid_goes_on_where_it_was_and_its_jobs_are_those_run_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill = f"{{_target_:tests.helpers.sweep_callbacks.KillOnce,marker:{tmp_path / 'killed'},"
    grid = (*TRAIN, "model.beta=1e-4,5e-4", "seed=1,2",
            "callbacks.checkpoint.every_n_batches=1",
            f"+callbacks.kill={kill}seed:${{seed}},victim:2,step:2}}")  # fmt: skip
    killed = run_hvp("-m", *grid, work_dir=tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    directory = sweep_dir(tmp_path)
    assert states(directory) == ["finished", "running"]

    finished = (directory / "jobs" / "0.json").read_bytes()
    run_here("-m", *grid, work_dir=tmp_path)
    printed = capsys.readouterr().out
    assert "job 0: finished before" in printed
    assert "structure: going on from" in printed
    assert sweep_dir(tmp_path) == directory
    assert (directory / "jobs" / "0.json").read_bytes() == finished
    rows = overview(directory)
    assert [(r["job"], r["state"], r["model.beta"], r["seed"]) for r in rows] == [
        ("0", "finished", "0.0001", "1"),
        ("1", "finished", "0.0001", "2"),
        ("2", "finished", "0.0005", "1"),
        ("3", "finished", "0.0005", "2"),
    ]
    assert {Path(row["output_dir"]).name for row in rows} == {"0", "1", "2", "3"}
    for title in ("beta", "seed", "val/loss", "best     job"):
        assert title in printed

    alone = tmp_path / "alone"
    run_well(*TRAIN, "model.beta=5e-4", "seed=2", grid[-1], work_dir=alone)
    (manifest,) = (a for a in LocalStore(alone / "artifacts").lineage(
        "structure-synthetic-checkpoint"
    ) if a.type == ArtifactType.CHECKPOINT)  # fmt: skip
    expected = manifest.metadata["metrics"]
    assert metrics_of(tmp_path, manifest.metadata["settings_digest"]) == expected
    assert float(rows[3]["val/loss"]) == expected["val/loss"]


def test_a_search_prunes_what_falls_behind_and_is_replayed_when_started_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    where = tmp_path / "search"
    search = (*TRAIN, "sweep=structure", "sweep.metric=val/loss", "sweep.direction=minimize",
              "sweep.pruner.n_startup_trials=1", f"hydra.sweep.dir={where}")  # fmt: skip
    run_here("-m", *search, "hydra.sweeper.n_trials=3", work_dir=tmp_path)
    records = read_records(where)
    assert {"finished", "pruned"} == {record.state for record in records}
    for number, record in enumerate(records):  # Optuna's median rule, in our words
        finished = [r for r in records[:number] if r.state == "finished"]
        for step in record.reports:
            best_yet = min(v for s, v in record.reports.items() if s <= step)
            behind = bool(finished) and best_yet > median(r.reports[step] for r in finished)
            is_last = step == max(record.reports)
            assert behind == (record.state == "pruned" and is_last)
    assert len(published(tmp_path)) == states(where).count("finished")

    capsys.readouterr()
    before = [record.overrides for record in records]
    run_here("-m", *search, "hydra.sweeper.n_trials=4", work_dir=tmp_path)
    printed = capsys.readouterr().out
    assert [f"job {n}: {r.state} before" in printed for n, r in enumerate(records)] == [True] * 3
    records = read_records(where)
    assert [record.overrides for record in records[:3]] == before
    assert len({record.overrides for record in records}) == 4
    winner = min((r for r in records if r.state == "finished"), key=lambda r: r.value or 0.0)
    assert f"best     job {winner.number}" in printed
    assert f"best_value: {winner.value}" in (where / "optimization_results.yaml").read_text()


def published(work_dir: Path) -> list[Path]:
    return list((work_dir / "artifacts" / "structure-synthetic-checkpoint").glob("v*"))


def test_a_failing_job_is_in_the_table_and_another_sweeps_directory_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"hydra.sweep.dir={tmp_path / 'sweep'}"
    # Far shorter than the interval between validations: it is validated at its end all the same.
    short = (*TRAIN, "trainer.val_check_interval=1000", "model.structure.max_steps=1", where)
    with pytest.raises(SystemExit, match=r"1 of 3 jobs failed, .* seed=-1"):
        run_here("-m", *short, "seed=1,-1,2", work_dir=tmp_path)
    assert states(tmp_path / "sweep") == ["finished", "failed", "finished"]
    assert "seed=-1" in overview(tmp_path / "sweep")[1]["error"]
    assert "job 1: seed=-1: expected" in capsys.readouterr().out
    assert not (tmp_path / "sweep" / "1").exists()  # a mistake leaves nothing but its record
    for number in ("0", "2"):
        log = (tmp_path / "sweep" / number / "run.log").read_text()
        assert "published structure-synthetic-checkpoint" in log
        assert log.count("began ") == 1

    records = read_records(tmp_path / "sweep")
    with pytest.raises(SystemExit, match=r"job 0 of this sweep directory was .*hydra\.sweep\.dir"):
        run_here("-m", *short, "seed=2,1", work_dir=tmp_path)
    assert read_records(tmp_path / "sweep") == records


def test_a_metric_that_is_not_measured_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"sweep\.metric=val/speed: .* val/loss"):
        run_here("-m", *TRAIN, "sweep.metric=val/speed", "seed=1", work_dir=tmp_path)


def test_jobs_and_their_table_are_one_group_at_wandb(tmp_path: Path) -> None:
    with WandbServer(tmp_path / "server") as server, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(server).items():
            patch.setenv(name, value)
        run_well("-m", *TRAIN, "model.structure.max_steps=1", "seed=1,2", "logger=[csv,wandb]",
                 work_dir=tmp_path)  # fmt: skip
        runs = list(server.runs.values())
        group = sweep_dir(tmp_path).name
        assert [run["group"] for run in runs] == [group] * 3
        assert [run["jobType"] for run in runs] == ["structure", "structure", "sweep"]
        assert len({run["id"] for run in runs}) == 3
        configs = [json.loads(run["config"]) for run in runs[:2]]
        assert [config["seed"]["value"] for config in configs] == [1, 2]
        (table,) = tables(server, runs[2]["id"])
        seeds = [row[table["columns"].index("seed")] for row in table["data"]]
        assert seeds == ["1", "2"]
        assert "val/loss" in table["columns"]
        assert not server.missing
        assert not server.unhandled()


def tables(server: WandbServer, run_id: str) -> list[dict[str, Any]]:
    """The Tables a run has logged."""
    names = [name for name in server.runs[run_id]["files"] if name.startswith("media/table/")]
    return [json.loads(server.blob(f"run/{run_id}/{name}").read_text()) for name in names]


def record(number: int, state: Any = "finished", **more: Any) -> JobRecord:
    return JobRecord(number, (f"seed={number}",), settings_digest(number), "out", state, **more)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = record(3, reports={1: 2.0, 20: float("nan")}, pruner_state={"rung": 1.0})
    written.write(tmp_path / "jobs" / "3.json")
    (found,) = read_records(tmp_path)
    assert repr(found) == repr(written)
    (tmp_path / "jobs" / "3.json").write_text("{}")
    with pytest.raises(DataError, match=r"3\.json"):
        read_records(tmp_path)


@pytest.mark.parametrize(("direction", "number"), [("minimize", 1), ("maximize", 0)])
def test_the_best_job_is_a_finished_one(direction: str, number: int) -> None:
    jobs = [record(0, value=3.0), record(1, value=1.0), record(2, "pruned", value=0.5),
            record(3, "pruned", value=9.0), record(4, "failed")]  # fmt: skip
    assert best_job(jobs, direction) is jobs[number]
    assert best_job(jobs[2:], direction) is None


def test_the_table_shows_the_keys_that_vary() -> None:
    assert varied_keys([record(0), record(1)]) == ["seed"]
    assert varied_keys([record(0), record(0)]) == []
    assert varied_keys([record(0)]) == ["seed"]


def test_optunas_pruners_decide_from_the_records() -> None:
    pruners = pytest.importorskip("optuna").pruners
    from hvp.sweeps.pruning import should_prune

    others = [record(n, value=1.0 * n, reports={1: 1.0 * n, 2: 1.0 * n}) for n in range(3)]
    median_pruner = pruners.MedianPruner(n_startup_trials=3)
    for value, pruned in ((1.5, True), (0.5, False)):
        job = record(5, "running", reports={1: value})
        assert should_prune(median_pruner, "minimize", job, others)[0] == pruned
        assert should_prune(median_pruner, "maximize", job, others)[0] != pruned
    few = pruners.MedianPruner(n_startup_trials=4)
    assert not should_prune(few, "minimize", record(5, "running", reports={1: 9.0}), others)[0]


def test_successive_halving_remembers_its_rungs_in_the_records() -> None:
    pruners = pytest.importorskip("optuna").pruners
    from hvp.sweeps.pruning import should_prune

    jobs: list[JobRecord] = []
    ended = []
    for number, value in enumerate([3.0, 2.0, 4.0, 1.0]):
        pruner = pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        job = record(number, "running", reports={1: value})
        pruned, state = should_prune(pruner, "minimize", job, jobs)
        assert state["completed_rung_0"] == value
        jobs.append(record(number, "running", reports={1: value}, pruner_state=state))
        ended.append(pruned)
    assert ended == [False, False, True, False]  # the better half of those that got there goes on


def test_a_pruned_job_is_a_pruned_trial_of_the_study(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    from hvp.sweeps.study import SweepStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=SweepStorage(str(tmp_path)), direction="minimize")
    for number, (state, value) in enumerate([("finished", 2.0), ("pruned", 1.0)]):
        record(number, state, value=value, reports={1: value}).write(
            tmp_path / "jobs" / f"{number}.json"
        )
        study.tell(study.ask(), value)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]
    assert study.trials[1].intermediate_values == {1: 1.0}
    assert study.best_trial.number == 0


@pytest.mark.slow
def test_a_search_for_stage_two_prunes_too(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    run_here("-m", *SMALL, "sweep=image", "predict=false", "trainer.val_check_interval=1",
             "sweep.pruner.n_startup_trials=1", "hydra.sweeper.n_trials=3",
             work_dir=tmp_path)  # fmt: skip
    directory = sweep_dir(tmp_path)
    assert len(states(directory)) == 3
    assert set(states(directory)) <= {"finished", "pruned"}
    assert float(overview(directory)[0]["val/psnr"]) > 0


@pytest.mark.slow
def test_jobs_in_processes_of_their_own_prune_each_other(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    run_well("-m", *TRAIN[:-1], "sweep=structure", "sweep.pruner.n_startup_trials=1",
             "callbacks.samples.clips=1", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2",
             "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5",
             work_dir=tmp_path)  # fmt: skip
    assert len(states(sweep_dir(tmp_path))) == 4
    assert set(states(sweep_dir(tmp_path))) <= {"finished", "pruned"}


def test_a_job_that_measured_nothing_is_an_empty_cell(tmp_path: Path) -> None:
    blind = (*TRAIN, "trainer.limit_val_batches=0", "seed=1")
    run_here("-m", *blind, f"hydra.sweep.dir={tmp_path / 'blind'}", work_dir=tmp_path)
    (row,) = overview(tmp_path / "blind")
    assert (row["state"], row["val/loss"], row["error"]) == ("finished", "", "")


def test_a_job_whose_artifact_lost_its_metrics_measures_them_again(tmp_path: Path) -> None:
    run_here("-m", *TRAIN, "seed=1", f"hydra.sweep.dir={tmp_path / 'one'}", work_dir=tmp_path)
    (version,) = published(tmp_path)
    manifest = json.loads((version / "artifact.json").read_text())
    del manifest["digest"], manifest["metadata"]["metrics"]
    write_json(version / "artifact.json", {**manifest, "digest": settings_digest(manifest)})

    run_here("-m", *TRAIN, "seed=1", f"hydra.sweep.dir={tmp_path / 'two'}", work_dir=tmp_path)
    assert len(published(tmp_path)) == 1
    (trained,), (measured,) = read_records(tmp_path / "one"), read_records(tmp_path / "two")
    assert measured.value == pytest.approx(trained.value, rel=1e-6)


def test_the_table_shows_names_with_brackets_and_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = "[bold]x[/bold]"
    jobs = [JobRecord(n, (f"dataset.name={text}",), settings_digest(n), "out", "finished")
            for n, text in enumerate((value, "a\x1b[2Jb"))]  # fmt: skip
    _print(jobs, "minimize", tmp_path)
    shown = capsys.readouterr().out
    assert value in shown
    assert "\x1b" not in shown
    assert r"a\x1b[2Jb" in shown


def test_no_cell_of_the_overview_is_a_formula_and_numbers_stay(tmp_path: Path) -> None:
    job = JobRecord(0, ("name==1+1", "bias=-0.5"), settings_digest(0), "out", error="@SUM(A1)",
                    state="failed", metrics={"val/loss": -1.5})  # fmt: skip
    job.write(tmp_path / "jobs" / "0.json")
    write_csv(tmp_path)
    (row,) = overview(tmp_path)
    assert (row["name"], row["error"]) == ("'=1+1", "'@SUM(A1)")
    assert (row["bias"], row["val/loss"]) == ("-0.5", "-1.5")
