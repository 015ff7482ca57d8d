"""Does memory grow with the horizon? Peak RSS of every predicting stage, short against long.

    python benchmarks/long_rollout.py --short 1000 --long 10000

Trains tiny models for a few steps, then runs `run.py` for one clip at both horizons, each stage in
a process of its own, and prints the largest resident set that the kernel saw of it (`ru_maxrss`).
Exits with 1 if a long roll-out needs more than `--tolerance` above the short one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("structure", "image", "svg_rgb", "evaluate")
TINY = (
    "trainer=cpu",
    "trainer.limit_val_batches=0",
    "dataset.rules.n_past=3",
    "dataset.rules.n_future=3",
    "dataset.rules.min_eval_clips=1",
    "dataset.max_eval_clips=1",
    "dataset.datamodule.n_train=2",
    "dataset.datamodule.n_val=1",
    "dataset.datamodule.n_test=1",
    "dataset.datamodule.frames_per_recording=60",
    "model.structure.batch_size=2",
    "model.structure.max_steps=2",
    "model.structure.module.network.base_width=4",
    "model.structure.module.network.rnn_width=8",
    "model.image.max_steps=4",
    "model.image.module.generator.ngf=4",
    "model.image.module.generator.n_blocks=2",
    "model.image.module.image_discriminator.ndf=4",
    "model.image.module.temporal_discriminators.ndf=4",
    "evaluate.clips_shown=1",
    "evaluate.frames_shown=500",
)


def peak_of(stage: str, work_dir: Path, *overrides: str) -> tuple[float, float]:
    """Run a stage; its peak resident set in MiB and its seconds."""
    command = [sys.executable, "run.py", f"stage={stage}", f"work_dir={work_dir}", *TINY]
    begun = time.perf_counter()
    log = work_dir / f"{stage}.log"
    with log.open("w") as output:
        child = subprocess.Popen([*command, *overrides], cwd=ROOT, stdout=output, stderr=output)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"stage {stage} failed:\n{log.read_text()[-3000:]}")
    return usage.ru_maxrss / 1024, time.perf_counter() - begun


def main() -> None:
    """Run both horizons and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", type=int, default=1000, help="frames of the short roll-out")
    parser.add_argument("--long", type=int, default=10_000, help="frames of the long roll-out")
    parser.add_argument("--samples", type=int, default=1, help="futures sampled side by side")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--tolerance", type=float, default=0.05, help="allowed growth, as a share")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        for stage in ("structure", "image", "svg_rgb"):
            if stage in options.stages:
                peak_of(stage, work_dir, "predict=false")
        grown = False
        print(f"{'stage':10} {'frames':>7} {'peak MiB':>9} {'seconds':>8}   growth")
        peaks: dict[str, float] = {}
        for horizon in (options.short, options.long):
            rollout = (
                f"dataset.rules.n_eval={horizon}",
                f"dataset.rollout.samples={options.samples}",
            )
            for stage in (name for name in STAGES if name in options.stages):
                with_rgb = stage == "evaluate" and "svg_rgb" in options.stages
                own = ["evaluate.svg_rgb=svg_rgb-synthetic"] * with_rgb
                peak, seconds = peak_of(stage, work_dir, *rollout, *own)
                growth = peak / peaks.setdefault(stage, peak) - 1
                grown |= growth > options.tolerance
                print(f"{stage:10} {horizon:7} {peak:9.1f} {seconds:8.1f}   {growth:+.1%}")
                sys.stdout.flush()
    sys.exit(int(grown))


if __name__ == "__main__":
    main()
