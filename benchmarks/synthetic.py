"""The synthetic driving world against a dataset on disk: frames per second on one thread.

    python benchmarks/synthetic.py --size 64 64 --frames 200

Drawing gives label map, RGB and exact flow of each frame. The baseline reads the very same frames
from files, as a dataset on disk would be: label and RGB as PNG, flow as 16-bit PNG (KITTI's way,
1/64 pixel). Checks first that the files hold what was drawn, then times both in turns, so that a
busy machine slows both alike, and reports the median and the best turn.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

# Before NumPy is imported: both sides are measured on one thread.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvp.files import write_json
from hvp.worlds.driving import world as driving

FLOW_STEPS = 64
"""Steps of the stored flow per pixel."""


def main() -> None:
    """Parse the options, write the files, check them, time, print."""
    options = parse_options()
    cv2.setNumThreads(1)
    size = (options.size[0], options.size[1])
    with tempfile.TemporaryDirectory() as folder:
        files = write_frames(Path(folder), options.seed, size, options.frames)
        check(files, options.seed, size)
        draw, read = [], []
        world = driving.stream(options.seed, size)
        next(world)  # builds the world and the textures
        for _ in range(options.repeats):
            start = time.perf_counter()
            for _ in islice(world, options.frames):
                pass
            middle = time.perf_counter()
            for paths in files:
                read_frame(paths)
            draw.append(options.frames / (middle - start))
            read.append(options.frames / (time.perf_counter() - middle))
    results = {
        name: {"median_fps": statistics.median(values), "best_fps": max(values)}
        for name, values in (("draw", draw), ("read PNG files", read))
    }
    print(f"{'labels + RGB + flow, one thread':34}{'median':>10}{'best':>10}  frames/s")
    for name, values in results.items():
        print(f"{name:34}{values['median_fps']:10.0f}{values['best_fps']:10.0f}")
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        settings["world_version"] = driving.WORLD_VERSION
        write_json(options.json, {"settings": settings, "results": results})


def parse_options() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=[64, 64], metavar=("H", "W"))
    parser.add_argument("--frames", type=int, default=200, help="frames per turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write settings and results here")
    return parser.parse_args()


def write_frames(
    folder: Path, seed: int, size: tuple[int, int], n_frames: int
) -> list[tuple[str, str, str]]:
    """Write a recording as PNG files; their paths per frame (label, RGB, flow)."""
    files = []
    for index, (labels, frame, flow) in enumerate(islice(driving.stream(seed, size), n_frames)):
        label_file, rgb_file, flow_file = (
            str(folder / f"{name}_{index:06d}.png") for name in ("label", "rgb", "flow")
        )
        stored = np.zeros((*size, 3), np.uint16)
        stored[..., :2] = np.clip(flow.transpose(1, 2, 0) * FLOW_STEPS + 2**15, 0, 2**16 - 1)
        cv2.imwrite(label_file, labels)
        cv2.imwrite(rgb_file, frame[..., ::-1])
        cv2.imwrite(flow_file, stored)
        files.append((label_file, rgb_file, flow_file))
    return files


def read_frame(paths: tuple[str, str, str]) -> driving.Frame:
    """One frame in the form in which `driving.stream` gives it."""
    labels, bgr, stored = (cv2.imread(path, cv2.IMREAD_UNCHANGED) for path in paths)
    assert labels is not None
    assert bgr is not None
    assert stored is not None
    flow = (stored[..., :2].astype(np.float32) - 2**15) / FLOW_STEPS
    return labels, bgr[..., ::-1].copy(), flow.transpose(2, 0, 1).copy()


def check(files: list[tuple[str, str, str]], seed: int, size: tuple[int, int]) -> None:
    """Exit unless the files hold what is drawn."""
    for paths, (labels, frame, flow) in zip(files, driving.stream(seed, size), strict=False):
        read_labels, read_rgb, read_flow = read_frame(paths)
        same = (read_labels == labels).all() and (read_rgb == frame).all()
        kept = np.abs(flow) < 2**15 / FLOW_STEPS - 1
        if not same or np.abs(read_flow - flow)[kept].max() > 1.01 / FLOW_STEPS:
            raise SystemExit(f"{paths[0]}: the files do not hold what the world draws")


if __name__ == "__main__":
    main()
