"""The public configuration: everything composes, and mistakes are named before any work."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hvp.config.checks import check_config
from hvp.config.digests import TRAINING_STAGES, fit_settings, run_digest
from hvp.errors import ConfigError, DataError
from tests.helpers.commands import ROOT, composed, run_hvp

STAGES = sorted(path.stem for path in (ROOT / "conf" / "stage").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.yaml"))
PUBLISHED = {  # dataset table of the paper's settings: size, classes, past, future, eval, step
    "kitti64": ([64, 64], 19, 5, 15, 500, 2, "latest"),
    "kitti256": ([256, 256], 19, 5, 15, 500, 2, "latest"),
    "cityscapes": ([128, 256], 19, 4, 6, 100, 3, "frozen"),
    "pose64": ([64, 64], 25, 5, 40, 500, 2, "latest"),
    "pose128": ([128, 128], 25, 5, 40, 500, 2, "latest"),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_experiment_composes_and_passes_the_checks(experiment: str, stage: str) -> None:
    config = composed(f"experiment={experiment}", f"stage={stage}", "data_root=/data")
    check_config(config)
    OmegaConf.to_container(config, resolve=True)
    assert re.fullmatch(r"[0-9a-f]{12}", run_digest(config))


@pytest.mark.parametrize("stage", TRAINING_STAGES)
def test_every_training_stage_says_what_ranks_the_jobs_of_a_sweep(stage: str) -> None:
    assert composed(f"stage={stage}").sweep.metric.startswith("val/")


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_published_settings_are_the_papers(experiment: str) -> None:
    config = composed(f"experiment={experiment}", "data_root=/data")
    size, n_classes, n_past, n_future, n_eval, step, skip = PUBLISHED[experiment]
    dataset, rules = config.dataset, config.dataset.rules
    assert (list(dataset.size), dataset.n_classes) == (size, n_classes)
    assert (rules.n_past, rules.n_future, rules.n_eval, rules.step) == (
        n_past, n_future, n_eval, step,
    )  # fmt: skip
    assert (dataset.rollout.samples, dataset.rollout.skip) == (10, skip)
    structure = config.model.structure
    assert (structure.batch_size, structure.max_steps) == (16, 100_000)
    assert (structure.module.lr, structure.module.beta) == (1e-4, 5e-4)
    assert config.model.image.module.generator.n_frames_G == (6 if experiment == "kitti64" else 3)


def test_every_key_of_the_configuration_is_documented() -> None:
    undocumented = []
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        if not path.read_text().startswith("#"):
            undocumented.append(str(path))
    assert not undocumented


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=kitti"], "data_root"),
        (["+datset=3"], "datset"),
        (["stage=structure", "fit=false", "predict=false"], "nothing to do"),
        (["checkpoint=a:v0"], "stage=pipeline trains two models"),
        (["predict=false"], "predict=false"),
        (["fit=maybe"], "fit=maybe"),
        (["seed=-1"], "seed=-1"),
        (["aliases=[v3]"], "alias 'v3': looks like a version"),
        (["aliases=best"], "aliases=best"),
        (["dataset.size=[64]"], "dataset.size"),
        (["dataset.rollout.samples=0"], "dataset.rollout.samples"),
        (["dataset.rollout.skip=newest"], "dataset.rollout.skip"),
        (["dataset.max_eval_clips=0"], "dataset.max_eval_clips"),
        (["stage=image", "dataset.rules.n_past=1"], "dataset.rules.n_past=1"),
        (["stage=image", "dataset.image.foreground_classes=[25]"], "foreground_classes"),
        (["stage=image", "model.image.ema_decay=1.0"], "model.image.ema_decay=1.0"),
        (["stage=image", "model.image.ema_decay=-0.1"], "model.image.ema_decay=-0.1"),
        (
            ["stage=structure", "trainer.devices=2", "model.structure.batch_size=3"],
            "model.structure.batch_size=3: counts clips over all ranks",
        ),
        (
            ["stage=structure", "trainer.max_steps=-1", "trainer.max_epochs=-1"],
            "trainer.max_steps",
        ),
    ],
)
def test_wrong_settings_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_config(composed(*overrides))


def test_a_class_file_that_does_not_exist_is_named() -> None:
    config = composed("dataset=folder", "data_root=/data", "dataset.classes=nowhere.json")
    with pytest.raises(DataError, match=r"nowhere\.json"):
        check_config(config)


def test_settings_that_cannot_change_the_weights_do_not_change_their_digest() -> None:
    base = fit_settings(composed("stage=structure"))
    same = ["trainer.devices=2", "logger=all", "dataset.rollout.samples=3", "dataset.num_workers=2",
            "dataset.rules.n_eval=7", "dataset.datamodule.n_test=99", "force=true",
            "dataset.image.part_dropout=0.1", "dataset.flip.image=false",
            "work_dir=/elsewhere"]  # fmt: skip
    for override in same:
        assert fit_settings(composed("stage=structure", override)) == base, override
    own = ("stage=structure", "dataset=folder", "data_root=/data")
    assert fit_settings(composed(*own)) == fit_settings(
        composed(*own, "dataset.extract_labels.batch_size=1", "work_dir=/elsewhere")
    )
    assert fit_settings(composed(*own)) != fit_settings(
        composed(*own, "dataset.extract_labels.revision=v2")
    )
    other = ["seed=2", "model.beta=2e-3", "trainer.max_steps=7", "dataset.rules.n_future=6",
             "dataset.flip.structure=false", "model.structure.batch_size=3",
             "dataset.datamodule.world_seed=1"]  # fmt: skip
    for override in other:
        assert fit_settings(composed("stage=structure", override)) != base, override
    assert fit_settings(composed("stage=image", "dataset.rules.n_future=6")) == fit_settings(
        composed("stage=image")
    )


def test_evaluations_of_other_things_have_directories_of_their_own() -> None:
    base = run_digest(composed("stage=evaluate"))
    assert run_digest(composed("stage=evaluate", "evaluate.device=cpu")) == base
    others = [
        run_digest(composed("stage=evaluate", override))
        for override in ("predictions=structure-synthetic:v3", "videos=null",
                         "evaluate.predictions=folder:theirs")
    ]  # fmt: skip
    assert len({base, *others}) == 4


def test_help_lists_every_group_and_choice() -> None:
    printed = run_hvp("--help").stdout
    assert " _" not in printed  # what the files of a group share is no choice
    for group in ("stage", "dataset", "model", "trainer", "artifacts", "logger", "flow",
                  "callbacks", "experiment"):  # fmt: skip
        assert re.search(rf"^{group}: ", printed, re.MULTILINE), group
    for choice in ("synthetic", "folder", "kitti64", "pipeline", "raft_small", "tensorboard"):
        assert choice in printed


def test_an_unknown_key_ends_with_its_name_and_without_a_stack_trace(tmp_path: Path) -> None:
    done = run_hvp("dataset.sze=[64,64]", work_dir=tmp_path)
    assert done.returncode != 0
    assert "dataset.sze" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_ends_in_one_sentence(tmp_path: Path) -> None:
    done = run_hvp("dataset=folder", work_dir=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: data_root is not set")
    assert "Traceback" not in done.stderr


def test_sharded_training_is_refused_for_stage_two() -> None:
    check_config(composed("stage=structure", "trainer=fsdp"))
    with pytest.raises(ConfigError, match="trainer=fsdp: stage=image has two optimizers"):
        check_config(composed("stage=image", "trainer=fsdp"))


def test_a_slurm_launcher_without_a_sweep_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = run_hvp("stage=structure", "hydra/launcher=slurm", work_dir=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: hydra/launcher is one for SLURM, but Hydra submits jobs")
    assert "python run.py -m stage=structure" in done.stderr
