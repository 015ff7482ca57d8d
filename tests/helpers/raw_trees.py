"""Small raw datasets in the official layouts, long enough for the clips of `RULES`."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from hvp.data.rules import ClipRules
from tests.helpers.small_reader import write_labels, write_rgb

RULES = ClipRules(
    n_past=2, n_future=2, n_eval=4, step=1, eval_offset=0, eval_stride=1, min_eval_clips=1
)


def kitti_drive(
    root: Path,
    drive: str,
    numbers: Iterable[int],
    rgb: bool = True,
    labels_root: Path | None = None,
) -> None:
    folder = f"{drive[:10]}/{drive}_sync/image_03/data"
    for number in numbers:
        write_labels((labels_root or root) / folder / f"color_mask_{number:010d}.png", (12, 40))
        if rgb:
            write_rgb(root / folder / f"{number:010d}.png", (12, 40), number)


def kitti_tree(root: Path) -> Path:
    """Two training drives (one with a gap), one of each other split, two excluded."""
    kitti_drive(root, "2011_09_26_drive_0001", range(6))
    kitti_drive(root, "2011_09_26_drive_0002", [0, 1, 2, 3, 4, 8, 9])
    kitti_drive(root, "2011_09_26_drive_0005", range(5))
    kitti_drive(root, "2011_09_26_drive_0070", range(7))
    kitti_drive(root, "2011_09_28_drive_0054", range(3))
    kitti_drive(root, "2011_09_28_drive_0220", range(4))
    return root


def cityscapes_sequence(
    root: Path,
    split: str,
    city: str,
    sequence: int,
    numbers: Iterable[int],
    label_size: tuple[int, int] = (8, 16),
) -> None:
    folder = root / "leftImg8bit_sequence" / split / city
    for number in numbers:
        name = f"{city}_{sequence:06d}_{number:06d}_leftImg8bit.png"
        write_labels(folder / f"color_mask_{name}", label_size, number)
        write_rgb(folder / name, (16, 32), number)


def cityscapes_tree(root: Path) -> Path:
    """One sequence of each of three cities, the last of the unused official split."""
    cityscapes_sequence(root, "train", "aachen", 0, range(7))
    cityscapes_sequence(root, "val", "munster", 3, range(6))
    cityscapes_sequence(root, "test", "bonn", 1, range(5))
    return root


def densepose_clip(root: Path, clip: str, numbers: Iterable[int]) -> None:
    """IUV images whose part index is the frame number + 1, and RGB."""
    (root / clip).mkdir(parents=True)
    for number in numbers:
        iuv = np.zeros((10, 12, 3), np.uint8)
        iuv[..., 0], iuv[..., 1], iuv[..., 2] = 200, 100, number + 1
        Image.fromarray(iuv).save(root / clip / f"frame{number:06d}_IUV.png")
        Image.new("RGB", (12, 10), (9, 0, 0)).save(root / clip / f"frame{number:06d}.jpg")


def densepose_tree(root: Path) -> Path:
    """Two clips in the split file and one that it does not name."""
    for clip in ("V00001/C00001", "V00001/C00002", "V00002/C00001"):
        densepose_clip(root, clip, range(6))
    split = {"train": {"V00001": ["C00001"]}, "test": {"V00002": ["C00001"]}}
    (root / "split.json").write_text(json.dumps(split))
    return root


def folder_tree(root: Path) -> Path:
    """Three sequences and a folder of something else."""
    for sequence in ("a", "b", "c"):
        for i in range(10):
            write_labels(root / sequence / "label" / f"{i:06d}.png", (16, 32), i)
            write_rgb(root / sequence / "rgb" / f"{i:06d}.png", (16, 32), i)
    (root / "notes").mkdir()
    return root
