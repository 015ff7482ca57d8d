"""Huge predictions state their size first, and are refused where the disk is too small."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from hvp.artifacts.label_files import open_samples
from hvp.errors import ConfigError
from hvp.media import lossless_writer
from hvp.training.estimate import check_space
from tests.helpers.commands import SMALL, run_here

GIB = 1 << 30
RNG = np.random.default_rng()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def label_maps() -> np.ndarray:
    return np.repeat(RNG.integers(0, 9, (40, 8, 8), np.uint8), 16, axis=2).repeat(16, axis=1)


def pictures() -> np.ndarray:
    return np.repeat(RNG.integers(0, 99, (8, 3, 16, 16), np.uint8), 8, axis=3).repeat(8, axis=2)


def written(example: np.ndarray, folder: Path) -> int:
    """Bytes of the file that a set has for these frames."""
    if example.ndim == 3:
        with open_samples(folder / "clip.npz", (1, *example.shape)) as add:
            for frame in example:
                add(frame[None])
        return (folder / "clip.npz").stat().st_size
    with lossless_writer(folder / "clip.mkv", 10) as add:
        for frame in example:
            add(np.ascontiguousarray(frame.transpose(1, 2, 0)))
    return (folder / "clip.mkv").stat().st_size


@pytest.mark.parametrize("make", [label_maps, pictures])
def test_the_estimate_is_what_such_frames_take_on_disk(
    make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = make()
    per_frame = written(example, tmp_path) / len(example)
    n_frames = int(100 * GIB / per_frame)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 130 * GIB))
    check_space("structure: all", n_frames, tmp_path / "not" / "yet", example)
    line = capsys.readouterr().out
    assert f"structure: all = {n_frames:,} frames, about " in line
    stated = float(line.split("about ")[1].split()[0])
    assert stated == pytest.approx(100, rel=0.2)
    assert "(130 GiB free)" in line
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 75 * GIB))
    with pytest.raises(ConfigError, match=r"the disk has less; .* dataset\.rollout\.samples"):
        check_space("structure: all", n_frames, tmp_path, example)
    assert {path.name for path in tmp_path.iterdir()} <= {"clip.npz", "clip.mkv"}


def test_small_requests_pass_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_space("structure: few", 1000, tmp_path, label_maps())
    assert capsys.readouterr().out == ""


def test_a_request_the_disk_has_no_room_for_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(*SMALL, "stage=prepare", work_dir=tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 1 << 20))
    with pytest.raises(SystemExit, match=r"structure: 2 clips x 9,000 samples x 9 frames = 162,0"):
        run_here(*SMALL, "stage=structure", "dataset.rollout.samples=9000", work_dir=tmp_path)
    assert not list(tmp_path.glob("outputs/structure-*/checkpoints"))
