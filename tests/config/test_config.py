"""The public configuration: everything composes, and mistakes are named before any work."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hvp.config.checks import check_config
from hvp.config.digests import run_digest
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
def test_every_experiment_composes_and_passes_the_checks(
    experiment: str, stage: str, tmp_path: Path
) -> None:
    # Whatever machine this is.
    here = ("trainer.accelerator=auto", f"data_root={tmp_path}", f"work_dir={tmp_path}")
    config = composed(f"experiment={experiment}", f"stage={stage}", *here)
    check_config(config)
    OmegaConf.to_container(config, resolve=True)
    assert re.fullmatch(r"[0-9a-f]{12}", run_digest(config))


@pytest.mark.parametrize("stage", ["structure", "image", "svg_rgb"])
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
    structure = config.model.structure
    assert (dataset.rollout.samples, structure.module.rollout_skip) == (10, skip)
    assert (structure.batch_size, structure.max_steps) == (16, 100_000)
    assert (structure.module.lr, structure.module.beta) == (1e-4, 5e-4)
    assert config.model.image.module.generator.n_frames_G == (6 if experiment == "kitti64" else 3)


def test_every_key_of_the_configuration_is_documented() -> None:
    undocumented = []
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        if not path.read_text().startswith("#"):
            undocumented.append(str(path))
    assert not undocumented


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
