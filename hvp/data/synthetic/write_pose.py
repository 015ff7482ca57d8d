"""Synthetic Human3.6M and DensePose datasets, rendered by the walker world.

    python -m hvp.data.synthetic.write_pose human36m FOLDER --joints cdf --videos
    python -m hvp.data.synthetic.write_pose human36m FOLDER --joints npz
    python -m hvp.data.synthetic.write_pose densepose FOLDER

The layouts and file formats are the official ones, so that the readers can be tried without the
datasets. FOLDER must not exist; it is written atomically.

Shapes: T frames.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from cdflib import cdfwrite
from PIL import Image

from hvp.errors import DataError, HVPError
from hvp.files import atomic_folder, write_json
from hvp.labels import Size
from hvp.log import say
from hvp.media import write_mp4
from hvp.signals import orderly_exit
from hvp.worlds.body.skeleton import JOINTS_OF_32, MIRRORED, N_JOINTS, Joint
from hvp.worlds.seeds import named_seed
from hvp.worlds.walker.world import stream, walk_joints

SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
VIDEOPOSE3D_FILE = "data_2d_h36m_gt.npz"
HUMAN36M_RATE = 50.0
DENSEPOSE_RATE = 25.0
_ACTIONS = ("Walking", "Walking 1", "Greeting", "Greeting 1", "Waiting", "Waiting 1")
_OTHERS_OF_32 = {4: 3, 5: 3, 9: 6, 10: 6, 11: 0, 16: 8, 20: 13, 21: 13, 22: 13, 23: 13, 24: 8,
                 28: 16, 29: 16, 30: 16, 31: 16}  # fmt: skip
"""Stand-ins: for each other joint of the 32 (toes, fingers, doubles), one of the 17."""


def write_human36m(
    folder: Path,
    joints: str = "cdf",
    subjects: Sequence[str] = SUBJECTS,
    takes: int = 2,
    n_frames: int = 250,
    size: Size = (256, 256),
    seed: int = 0,
    videos: bool = False,
    cameras: Sequence[str] = CAMERAS,
) -> None:
    """Write walks in the layout of Human3.6M.

    Args:
        folder: root to make, atomically.
        joints: `cdf` for the official `D2_Positions` files, `npz` for VideoPose3D's file.
        subjects: subject names.
        takes: takes per subject, each seen by all cameras; at most six.
        n_frames: frames of each take, at 50 Hz.
        size: height and width of the videos; joints are in their pixels.
        seed: random seed of the motions.
        videos: also write `Videos/<action>.<camera>.mp4`.
        cameras: camera numbers, at most four.

    Raises:
        DataError: `folder` exists, or an argument is out of range.
    """
    if joints not in ("cdf", "npz"):
        raise DataError(f"joints={joints}: expected cdf or npz")
    if not 1 <= takes <= len(_ACTIONS) or not 1 <= len(cameras) <= 4 or n_frames < 1:
        raise DataError(
            f"takes={takes}, cameras={len(cameras)}, frames={n_frames}: expected 1..{len(_ACTIONS)}"
            " takes, 1..4 cameras and at least one frame"
        )
    positions: dict[str, dict[str, list[np.ndarray]]] = {}
    with atomic_folder(folder) as root:
        for subject in subjects:
            for action in _ACTIONS[:takes]:
                arrays = []
                for view, camera in enumerate(cameras):
                    motion = named_seed(seed, f"{subject}/{action}")
                    found = walk_joints(motion, n_frames, size, HUMAN36M_RATE, view)
                    arrays.append(found.astype(np.float32))
                    if videos:
                        walk = stream(motion, size, HUMAN36M_RATE, view=view)
                        rgb = (frame.rgb for frame in islice(walk, n_frames))
                        path = root / subject / "Videos" / f"{action}.{camera}.mp4"
                        write_mp4(path, rgb, HUMAN36M_RATE)
                    if joints == "cdf":
                        poses = root / subject / "MyPoseFeatures" / "D2_Positions"
                        _write_cdf(poses / f"{action}.{camera}.cdf", found)
                positions.setdefault(subject, {})[action] = arrays
        if joints == "npz":
            _write_videopose3d(root / VIDEOPOSE3D_FILE, positions)


def _write_cdf(path: Path, joints_TJ2: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pose = np.zeros((len(joints_TJ2), 32, 2), np.float32)
    pose[:, JOINTS_OF_32] = joints_TJ2
    pose[:, list(_OTHERS_OF_32)] = joints_TJ2[:, list(_OTHERS_OF_32.values())]
    file = cdfwrite.CDF(path)
    about = {
        "Variable": "Pose",
        "Data_Type": file.CDF_FLOAT,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Var_Type": "zVariable",
        "Dim_Sizes": [len(pose), 64],
    }
    file.write_var(about, var_data=pose.reshape(1, -1, 64))
    file.close()


def _write_videopose3d(path: Path, positions: dict[str, dict[str, list[np.ndarray]]]) -> None:
    left = [j for j in range(N_JOINTS) if Joint(j).name.startswith("L_")]
    metadata = {
        "layout_name": "h36m",
        "num_joints": N_JOINTS,
        "keypoints_symmetry": [left, [MIRRORED[j] for j in left]],
    }
    # Dictionaries become pickled arrays of one object each, as in the original.
    arrays: dict[str, Any] = {"positions_2d": positions, "metadata": metadata}
    np.savez_compressed(path, **arrays)


def write_densepose(
    folder: Path,
    clips: dict[str, int] | None = None,
    n_frames: int = 120,
    size: Size = (256, 256),
    seed: int = 0,
    frames: bool = False,
) -> None:
    """Write walks as DensePose IUV images with split.json; only the part index is filled in.

    Args:
        folder: root to make, atomically.
        clips: number of clips per split, one per video; None = 8 train, 2 val, 2 test.
        n_frames: frames of each clip, at 25 Hz, counted from 0.
        size: height and width of the images.
        seed: random seed of the motions.
        frames: also write RGB, `frame<6 digits>.png`.

    Raises:
        DataError: `folder` exists.
    """
    clips = {"train": 8, "val": 2, "test": 2} if clips is None else clips
    split: dict[str, dict[str, list[str]]] = {name: {} for name in clips}
    with atomic_folder(folder) as root:
        names = [name for name, number in clips.items() for _ in range(number)]
        for number, name in enumerate(names, start=1):
            video, clip = f"V{number:05d}", "C00001"
            split[name][video] = [clip]
            (root / video / clip).mkdir(parents=True)
            walk = stream(named_seed(seed, video), size, DENSEPOSE_RATE)
            for index, frame in enumerate(islice(walk, n_frames)):
                iuv = np.zeros((*size, 3), np.uint8)
                iuv[..., 2] = frame.labels
                path = root / video / clip / f"frame{index:06d}"
                Image.fromarray(iuv).save(path.with_name(f"{path.name}_IUV.png"))
                if frames:
                    Image.fromarray(frame.rgb).save(path.with_suffix(".png"))
        write_json(root / "split.json", split)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hvp.data.synthetic.write_pose",
        description="Write the walker world in the layout of a pose dataset.",
    )
    layouts = parser.add_subparsers(dest="layout", required=True)
    human = layouts.add_parser("human36m", help="Human3.6M: 2D joints, and videos")
    human.add_argument(
        "--joints", choices=("cdf", "npz"), default="cdf", help="kind of joint files"
    )
    human.add_argument("--subjects", nargs="+", default=SUBJECTS, help="default: the seven")
    human.add_argument("--takes", type=int, default=2, help="takes per subject (default 2)")
    human.add_argument("--videos", action="store_true", help="also write the videos")
    dense = layouts.add_parser("densepose", help="DensePose: IUV images and split.json")
    dense.add_argument("--train", type=int, default=8, help="training clips (default 8)")
    dense.add_argument("--val", type=int, default=2, help="validation clips (default 2)")
    dense.add_argument("--test", type=int, default=2, help="test clips (default 2)")
    dense.add_argument("--videos", action="store_true", help="also write the RGB frames")
    for layout in (human, dense):
        layout.add_argument("folder", type=Path, help="folder to make")
        layout.add_argument("--frames", type=int, default=250, help="frames per take (default 250)")
        layout.add_argument("--size", type=int, default=256, help="pixels per side (default 256)")
        layout.add_argument("--seed", type=int, default=0, help="names the motions (default 0)")
    options = parser.parse_args(arguments)
    size = (options.size, options.size)
    try:
        if options.layout == "human36m":
            write_human36m(options.folder, options.joints, options.subjects, options.takes,
                           options.frames, size, options.seed, options.videos)  # fmt: skip
        else:
            clips = {"train": options.train, "val": options.val, "test": options.test}
            write_densepose(options.folder, clips, options.frames, size, options.seed,
                            options.videos)  # fmt: skip
    except HVPError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    say(f"wrote {options.folder}")
    return 0


if __name__ == "__main__":
    with orderly_exit():
        raise SystemExit(main())
