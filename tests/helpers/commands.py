"""Run run.py as a user does, with small settings."""

import logging
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from hvp.config.resolvers import register_resolvers

ROOT = Path(__file__).resolve().parents[2]
# World and models that take seconds on one core.
SMALL_MODELS = (
    "trainer=cpu",
    "trainer.limit_val_batches=1",
    "dataset.rules.n_past=3",
    "dataset.rules.n_future=3",
    "dataset.rules.n_eval=6",
    "dataset.rollout.samples=2",
    "dataset.max_eval_clips=2",
    "model.structure.batch_size=2",
    "model.structure.eval_batch_size=1",
    "model.structure.max_steps=3",
    "model.structure.module.network.base_width=4",
    "model.structure.module.network.rnn_width=8",
    "model.image.max_steps=4",
    "model.image.module.generator.ngf=4",
    "model.image.module.generator.n_blocks=2",
    "model.image.module.image_discriminator.ndf=4",
    "model.image.module.temporal_discriminators.ndf=4",
    "evaluate.clips_shown=1",
)
SMALL = (
    *SMALL_MODELS,
    "dataset.datamodule.n_train=2",
    "dataset.datamodule.n_val=1",
    "dataset.datamodule.n_test=2",
    "dataset.datamodule.frames_per_recording=24",
    "dataset.rules.val_stride=4",
)


def run_hvp(*overrides: str, work_dir: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python run.py OVERRIDES` in the checkout; output is captured."""
    where = () if work_dir is None else (f"work_dir={work_dir}",)
    return subprocess.run(
        [sys.executable, "run.py", *overrides, *where],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=400,
    )


def run_well(*overrides: str, work_dir: Path | None = None) -> str:
    """Run run.py, assert success, return its output."""
    done = run_hvp(*overrides, work_dir=work_dir)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run_here(*overrides: str, work_dir: Path) -> None:
    """Run run.py in this process, which saves the imports of a new one."""
    handlers, level = logging.root.handlers[:], logging.root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py", *overrides, f"work_dir={work_dir}"])
        patch.chdir(ROOT)
        try:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        finally:  # undo Hydra's logging setup, and our handlers
            for number, handler in signals.items():
                signal.signal(number, handler)
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)


def composed(*overrides: str) -> DictConfig:
    """Composed config of `run.py OVERRIDES` with output directory `out`."""
    register_resolvers()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", [*overrides, "output_dir=out"])
