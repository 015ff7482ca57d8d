"""Estimate of the frames and disk space of a prediction, stated before a huge one begins.

Shapes: T time, H height, W width.
"""

import shutil
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hvp.errors import ConfigError
from hvp.files import existing_part
from hvp.log import say
from hvp.media import lossless_writer

_HUGE_FRAMES = 100_000
_HUGE_BYTES = 1 << 30  # before compression
_GIB = 1 << 30


def check_space(asked: str, n_frames: int, folder: Path, example: np.ndarray) -> None:
    """State what a huge prediction will write; small ones pass without a word.

    Compression is measured on `example`. Publishing copies the files once more.

    Args:
        asked: what is asked for: `structure: 256 clips x 100 samples x 1,000 frames`.
        n_frames: number of frames of it.
        folder: where the files will lie.
        example: frames of the dataset, label maps (T, H, W) or RGB (T, 3, H, W), uint8.

    Raises:
        ConfigError: the disk has less space free than that.
    """
    if n_frames < _HUGE_FRAMES and n_frames * example[0].nbytes < _HUGE_BYTES:
        return
    place = existing_part(folder)
    needed = n_frames * _stored_bytes(example, place)
    free = shutil.disk_usage(place).free
    estimate = (
        f"{asked} = {n_frames:,} frames, about {needed / _GIB:.3g} GiB in {folder} "
        f"({free / _GIB:.3g} GiB free) and as much in the artifact store"
    )
    if needed > free:
        raise ConfigError(
            f"{estimate}: the disk has less; ask for less with dataset.max_eval_clips, "
            "dataset.rollout.samples or dataset.rules.n_eval, or give work_dir on a larger one"
        )
    say(estimate)


def _stored_bytes(example: np.ndarray, place: Path) -> float:
    """Bytes that one frame takes in a set: deflated label maps, lossless video."""
    if example.ndim == 3:
        return len(zlib.compress(example.tobytes())) / len(example)
    with TemporaryDirectory(dir=place) as folder:
        path = Path(folder) / "example.mkv"
        with lossless_writer(path, 10) as add:
            for frame_3HW in example:
                add(np.ascontiguousarray(frame_3HW.transpose(1, 2, 0)))
        return path.stat().st_size / len(example)
