"""Synthetic KITTI raw and Cityscapes datasets, rendered by the driving world.

    python -m hvp.data.synthetic.write_driving kitti FOLDER
    python -m hvp.data.synthetic.write_driving cityscapes FOLDER --size 256 512 --sequences 8 2 0

`dataset=kitti data_root=FOLDER` (or `cityscapes`) reads it like the real dataset: the same folders,
file names, image formats and published splits.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from hvp.data.readers.cityscapes import SEQUENCE_LENGTH, TRAIN_IDS
from hvp.errors import DataError, HVPError
from hvp.files import atomic_folder
from hvp.label_pictures import save_labels
from hvp.labels import CITYSCAPES, Size
from hvp.log import say, track
from hvp.signals import orderly_exit
from hvp.worlds.driving.world import stream

KITTI_TRAIN_DRIVES = (
    "2011_09_26_drive_0001", "2011_09_28_drive_0001", "2011_09_29_drive_0004",
    "2011_09_30_drive_0016", "2011_10_03_drive_0027",
)  # fmt: skip
KITTI_VAL_DRIVES = ("2011_09_26_drive_0005",)
KITTI_TEST_DRIVES = ("2011_09_26_drive_0104", "2011_09_26_drive_0079", "2011_09_26_drive_0070")
KITTI_EXCLUDED_DRIVE = "2011_09_28_drive_0054"
"""One of the drives that the published splits exclude."""

CITIES = {
    "train": ("aachen", "bochum", "hamburg"),
    "val": ("frankfurt", "lindau", "munster"),
    "test": ("berlin", "bonn"),
}
ANNOTATED_FRAME = 19
"""Index of the frame of a Cityscapes sequence that gtFine annotates."""
BORDER = 5
"""Width in pixels of gtFine's "rectification border" (id 2) at the edges."""


@dataclass(frozen=True)
class RenderSettings:
    """Render settings of the driving world."""

    size: Size
    """Height and width of the images."""
    frame_rate: float
    """Frame rate in Hz."""
    seed: int
    """Random seed; a recording's own seed derives from it and the recording's number."""
    labels: bool
    """Whether dense label maps (mode P, train ids) are written beside the RGB images."""

    def frames(self, recording: int, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frame iterator of one recording: train ids (H, W) uint8 and RGB (H, W, 3) uint8."""
        drawn = stream(self.seed * 100_000 + recording, self.size, self.frame_rate)
        for labels, rgb, _ in islice(drawn, count):
            yield labels, rgb


def write_kitti(
    folder: Path, world: RenderSettings, n_frames: int, n_train: int, gap: int = 0
) -> None:
    """Write synthetic KITTI raw drives: all published validation and test drives, one excluded.

    Args:
        folder: folder to make, atomically.
        world: render settings.
        n_frames: frames per drive.
        n_train: training drives, up to five.
        gap: number of frames missing in the middle of the first training drive.

    Raises:
        DataError: `folder` exists, or a count is out of range.
    """
    if not 1 <= n_train <= len(KITTI_TRAIN_DRIVES):
        raise DataError(f"n_train={n_train}: expected 1..{len(KITTI_TRAIN_DRIVES)} training drives")
    if n_frames < 1 or not 0 <= gap <= max(0, n_frames - 2):
        raise DataError(f"n_frames={n_frames}, gap={gap}: a gap lies between two frames")
    drives = [*KITTI_TRAIN_DRIVES[:n_train], *KITTI_VAL_DRIVES, *KITTI_TEST_DRIVES]
    drives.append(KITTI_EXCLUDED_DRIVE)

    def write(root: Path) -> Iterator[None]:
        for recording, drive in enumerate(drives):
            data = root / drive[:10] / f"{drive}_sync" / "image_03" / "data"
            first = (n_frames - gap) // 2
            missing = range(first, first + gap) if recording == 0 else range(0)
            for number, (labels, rgb) in enumerate(world.frames(recording, n_frames)):
                if number not in missing:
                    _write_frame(data, f"{number:010d}.png", labels, rgb, world.labels)
                yield

    _write_folder(folder, write, len(drives) * n_frames)


def write_cityscapes(folder: Path, world: RenderSettings, sequences: Sequence[int]) -> None:
    """Write synthetic Cityscapes sequences of 30 frames, with gtFine of their annotated frames.

    Args:
        folder: folder to make, atomically.
        world: render settings.
        sequences: number of train, val and test sequences, spread over the split's cities. The
            test split has no gtFine (the published one is blank).

    Raises:
        DataError: `folder` exists, or a count is out of range.
    """
    if len(sequences) != len(CITIES) or min(sequences) < 0 or not sum(sequences):
        raise DataError(f"sequences={list(sequences)}: expected three counts, train val test")
    names = [
        (split, cities[i % len(cities)], i // len(cities))
        for (split, cities), count in zip(CITIES.items(), sequences, strict=True)
        for i in range(count)
    ]

    def write(root: Path) -> Iterator[None]:
        for recording, (split, city, sequence) in enumerate(names):
            data = root / "leftImg8bit_sequence" / split / city
            for number, (labels, rgb) in enumerate(world.frames(recording, SEQUENCE_LENGTH)):
                frame = f"{city}_{sequence:06d}_{number:06d}"
                _write_frame(data, f"{frame}_leftImg8bit.png", labels, rgb, world.labels)
                if number == ANNOTATED_FRAME and split != "test":
                    path = root / "gtFine" / split / city / f"{frame}_gtFine_labelIds.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(_annotation(labels)).save(path)
                yield

    _write_folder(folder, write, len(names) * SEQUENCE_LENGTH)


def _annotation(labels: np.ndarray) -> np.ndarray:
    """gtFine label ids (H, W) uint8 of train ids, with the rectification border."""
    table = np.zeros(256, np.uint8)
    table[list(TRAIN_IDS.values())] = list(TRAIN_IDS)
    ids = np.full_like(labels, 2)
    ids[BORDER:-BORDER, BORDER:-BORDER] = table[labels[BORDER:-BORDER, BORDER:-BORDER]]
    return ids


def _write_frame(
    folder: Path, name: str, labels: np.ndarray, rgb: np.ndarray, with_labels: bool
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(folder / name)
    if with_labels:
        save_labels(folder / f"color_mask_{name}", labels, CITYSCAPES)


def _write_folder(folder: Path, write: Callable[[Path], Iterator[None]], total: int) -> None:
    """Write a folder atomically, with a progress bar."""
    with atomic_folder(folder) as temporary:
        for _ in track(write(temporary), f"write {folder.name}", total, "frames"):
            pass


def main(arguments: list[str] | None = None) -> None:
    """Command line, as described at the top of this file."""
    defaults = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m hvp.data.synthetic.write_driving",
        description="Write the synthetic driving world as KITTI raw or Cityscapes.",
    )
    layouts = parser.add_subparsers(dest="layout", required=True, metavar="LAYOUT")
    kitti = layouts.add_parser("kitti", help="KITTI raw drives", formatter_class=defaults)
    cityscapes = layouts.add_parser(
        "cityscapes", help="Cityscapes sequences of 30 frames", formatter_class=defaults
    )
    for layout, size, rate in ((kitti, (375, 1242), 10.0), (cityscapes, (1024, 2048), 17.0)):
        layout.add_argument("folder", type=Path, help="folder to make; it must not exist yet")
        layout.add_argument(
            "--size", type=int, nargs=2, default=size, metavar=("H", "W"), help="of the images"
        )
        layout.add_argument("--frame-rate", type=float, default=rate, help="frames per second")
        layout.add_argument("--seed", type=int, default=0, help="another seed, other drives")
        layout.add_argument(
            "--no-labels", action="store_true", help="without dense label maps (color_mask_*.png)"
        )
    kitti.add_argument("--frames", type=int, default=100, help="frames per drive")
    kitti.add_argument("--train-drives", type=int, default=5, help="training drives, 1 to 5")
    kitti.add_argument(
        "--gap", type=int, default=0, help="frames missing in the middle of the first drive"
    )
    cityscapes.add_argument(
        "--sequences", type=int, nargs=3, default=(12, 3, 0), metavar=("TRAIN", "VAL", "TEST"),
        help="sequences per official split",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    size = (options.size[0], options.size[1])
    world = RenderSettings(size, options.frame_rate, options.seed, not options.no_labels)
    try:
        if options.layout == "kitti":
            write_kitti(options.folder, world, options.frames, options.train_drives, options.gap)
        else:
            write_cityscapes(options.folder, world, options.sequences)
    except HVPError as error:
        sys.exit(f"error: {error}")
    say(f"wrote it: python run.py dataset={options.layout} data_root={options.folder}")


if __name__ == "__main__":
    with orderly_exit():
        main()
