"""The front door: a command that cannot run ends in one sentence and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT, run_here, run_hvp

# What was typed, and how the sentence begins.
MISTAKES = [
    ("logger=tensorbord", "logger=tensorbord: logger has no 'tensorbord'; expected one of all, "
     "csv, tensorboard, wandb; did you mean tensorboard?"),
    ("logger=[csv,tensorbord]", "logger=[csv,tensorbord]: logger has no 'tensorbord'; expected one "
     "of all, csv, tensorboard, wandb; did you mean tensorboard?"),
    ("logger=csv,wandb", "logger=csv,wandb: several values are one job each with -m"),
    ("logger=null", "logger=null: expected one of all, csv, tensorboard, wandb"),
    ("flow=raft", "flow=raft: flow has no 'raft'; expected one of dis, ground_truth, raft_large"),
    ("trainer=5", "trainer=5: expected one of auto, cpu, ddp, fsdp, gpu"),
    ("dataset=kity", "dataset=kity: dataset has no 'kity'; expected one of avenue, cityscapes, "
     "densepose, folder, human36m, kitti, synthetic, walker; did you mean kitti?"),
    ("dataset=[kitti,folder]", "dataset=[kitti, folder]: expected one choice; give dataset=kitti"),
    ("stage=[structure,image]", "stage=[structure, image]: expected one choice"),
    ("stage=train", "stage=train: stage has no 'train'; expected one of dashboard, evaluate"),
    ("stage.name=image", "stage.name=image: is not set here"),
    ("model/structure=tini", "model/structure=tini: model/structure has no 'tini'; expected one"),
    ("experiment=kitti", "experiment=kitti: experiment has no 'kitti'; expected one of"),
    ("+experiment=demo", "+experiment=demo: experiment exists already; give experiment=demo"),
    ("hydra/launcher=slrm", "hydra/launcher=slrm: hydra/launcher has no 'slrm'"),
    ("dataset.sze=[64,64]", "unknown key dataset.sze: nothing reads it; did you mean dataset.si"),
    ("datset=kitti", "unknown key datset: nothing reads it; did you mean dataset?"),
    ("lr=1e-3", "unknown key lr: nothing reads it; did you mean model."),
    ("model.structure.lr=1e-3", "unknown key model.structure.lr: nothing reads it; did you mean "
     "model.structure.module.lr?"),
    ("~foo", "unknown key foo: nothing reads it"),
    ("model.image.module.perceptual.weights=vgg.pth",
     "model.image.module.perceptual.weights: model.image.module.perceptual is switched off (null)"),
    ("+dataset.rulez.n_past=3", "unknown key dataset.rulez.n_past: nothing reads it; did you mean "
     "dataset.rules.n_past?"),
    ("++dataset={rulez:{n_past:3}}", "unknown key dataset.rulez.n_past: nothing reads it"),
    ("+rules.n_past=3", "unknown key rules.n_past: nothing reads it; did you mean dataset.rules."),
    ("+model.structure.lr=1e-3", "unknown key model.structure.lr: nothing reads it"),
    ("+trainer.logger=x", "trainer.logger: is not set here: loggers are chosen by logger=csv"),
    ("+seed=3", "+seed=3: seed exists already; give seed=3, without the +"),
    ("seed", "seed: expected KEY=VALUE"),
    ("seed=[1", "seed=[1: Hydra cannot read this value"),
    ("seed=${foo}", "callbacks.samples.seed: cannot be resolved (Interpolation key 'foo' not"),
    ("--stage structure", "--stage: is no flag (python run.py --hydra-help lists those); settings "
     "are given without dashes: stage=VALUE"),
    ("--seed=3", "--seed=3: is no flag (python run.py --hydra-help lists those); settings are "
     "given without dashes: seed=3"),
    ("hydra.run.dir=/proc/x", "output_dir=/proc/x: /proc cannot be written to"),
    ("seed=abc", "seed=abc: expected a whole number"),
    ("-m seed=1,2 dataset=folder", "data_root is not set: dataset=folder reads raw data"),
    ("-m seed=-1,-2", "seed=-1: expected a whole number"),
    ("-m seed=1,2 hydra.sweep.dir=/proc/x", "hydra.sweep.dir=/proc/x: /proc cannot be written to"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "sentence"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_ends_in_one_sentence_and_leaves_nothing(
    command: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_here(*command.split(), work_dir=tmp_path)
    assert str(ended.value).startswith(f"error: {sentence}")
    assert "\n" not in str(ended.value)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_shows_that_sentence_alone(tmp_path: Path) -> None:
    done = run_hvp("dataset=folder", work_dir=tmp_path / "not" / "yet")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: data_root is not set: dataset=folder reads raw data")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    done = run_hvp("work_dir=/proc/x")
    assert done.stderr.startswith("error: work_dir=/proc/x: /proc cannot be written to")
    assert len(done.stderr.splitlines()) == 1


def test_a_sweep_on_slurm_needs_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PATH", str(tmp_path))
    for command in (["-m", "seed=1,2"], ["stage=pipeline"]):
        with pytest.raises(SystemExit, match="there is no sbatch here"):
            run_here(*command, "hydra/launcher=slurm", work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stage_is_submitted_to_slurm_with_m_only(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with pytest.raises(
        SystemExit, match=r"but Hydra submits jobs only with -m.*-m stage=structure"
    ):
        run_here("stage=structure", "hydra/launcher=slurm", work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            "-m seed=1,2 hydra/launcher=slurm",
            "hydra/launcher=slurm: needs Hydra's plugin for submitit",
        ),
        ("-m sweep=structure", "hydra/sweeper=optuna: needs Hydra's plugin for optuna"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(command: str, sentence: str) -> None:
    without_plugins = (
        "import runpy, sys, types; plugins = types.ModuleType('hydra_plugins'); "
        "plugins.__path__ = []; sys.modules['hydra_plugins'] = plugins; "
        "sys.path.insert(0, '.'); runpy.run_path('run.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", without_plugins, *command.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stderr.startswith(f"error: {sentence}, which is not installed; pip install 'hvp[")
    assert len(done.stderr.splitlines()) == 1
