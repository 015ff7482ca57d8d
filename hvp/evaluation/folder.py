"""Folder of foreign predictions: pictures or videos of any model, read frame by frame.

    <folder>/<clip>/<sample>.mp4                     RGB as a video (.mp4 .mkv .avi .mov .webm), or
    <folder>/<clip>/<sample>/rgb/000000.png ...      RGB frames (PNG or JPEG), or rgb.mp4
    <folder>/<clip>/<sample>/label/000000.png ...    label maps (PNG, pixel value = class id)

`<clip>` is the clip's id as the evaluation lists it, `<recording>@<first frame>+<step>`; a `/` in
the name of the recording makes nested folders. Samples and frames are taken in the natural order
of their names (9 before 10). Every clip has the same number of samples, and every sample the
predicted frames and nothing else (no context), at the size of the dataset. There may be RGB, label
maps or both, alike for all samples.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvp.artifacts.predictions import PredictedClip
from hvp.clips import ClipId
from hvp.data.frame_order import in_frame_order
from hvp.data.videos import count_frames
from hvp.errors import DataError
from hvp.files import file_digest
from hvp.label_pictures import open_labels
from hvp.labels import LabelSpace, Size
from hvp.media import read_frames
from hvp.pictures import open_rgb
from hvp.tables import write_csv
from hvp.text import natural_key

PREFIX = "folder:"
"""Of the config value that names a folder."""

_VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm")
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class _Sample:
    """Paths of one sample."""

    rgb: Path | None
    """A video file or a folder of pictures."""
    label: Path | None
    """A folder of pictures."""


class FolderPredictions:
    """Predictions in a folder, checked as a whole and read frame by frame.

    Args:
        root: the folder.
        clips: the clips that are evaluated; their `samples` do not matter.
        size: height and width of the frames.
        space: classes of the label maps.

    Raises:
        DataError: something is missing, or not of the documented layout.
    """

    n_samples: int
    """Samples of every clip."""
    has_frames: bool
    """Whether there is RGB."""
    has_labels: bool
    """Whether there are label maps."""

    def __init__(
        self, root: Path, clips: Sequence[PredictedClip], size: Size, space: LabelSpace
    ) -> None:
        self.root, self.size, self.space = root, size, space
        if not root.is_dir():
            raise DataError(
                f"evaluate.predictions={PREFIX}{root}: no such folder; give one that holds a "
                "folder of predictions per clip"
            )
        self._samples = {clip.id: self._find(clip, len(clips)) for clip in clips}
        first_id, first = next(iter(self._samples.items()))
        self.n_samples = len(first)
        self.has_frames, self.has_labels = first[0].rgb is not None, first[0].label is not None
        kinds = {True: "RGB", False: "no RGB"}, {True: "label maps", False: "no label maps"}
        for clip_id, samples in self._samples.items():
            if len(samples) != self.n_samples:
                raise DataError(
                    f"{root / clip_id}: {len(samples)} samples, but {first_id} has "
                    f"{self.n_samples}; give the same number for every clip"
                )
            for sample in samples:
                found = sample.rgb is not None, sample.label is not None
                if found != (self.has_frames, self.has_labels):
                    raise DataError(
                        f"{sample.rgb or sample.label}: {kinds[0][found[0]]} and "
                        f"{kinds[1][found[1]]}, unlike the first sample of {first_id}; give the "
                        "same for all samples"
                    )
        for clip in clips:
            for sample in self._samples[clip.id]:
                for path in (sample.rgb, sample.label):
                    if path is not None:
                        _check_count(path, clip)

    def _find(self, clip: PredictedClip, n_clips: int) -> list[_Sample]:
        folder = self.root / clip.id
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; expected one for each of the {n_clips} evaluated "
                "clips, named by its id (clips.csv in the output directory lists them)"
            )
        entries = sorted(_visible(folder), key=lambda p: (natural_key(p.name), p.name))
        samples = [_sample(path) for path in entries if path.is_dir() or _is_video(path)]
        if not samples:
            raise DataError(
                f"{folder}: holds no samples; expected videos ({', '.join(_VIDEOS)}) or folders "
                "with rgb/ or label/"
            )
        return samples

    def frames(self, clip: PredictedClip) -> list[Iterator[np.ndarray]]:
        """The predicted RGB frames (H, W, 3) uint8 of every sample.

        Raises:
            DataError: a frame cannot be decoded or is of another size.
        """
        return [self._rgb(sample.rgb) for sample in self._samples[clip.id] if sample.rgb]

    def labels(self, clip: PredictedClip) -> list[Iterator[np.ndarray]]:
        """The predicted label maps (H, W) uint8 of every sample.

        Raises:
            DataError: a map cannot be decoded, is of another size or has unknown ids.
        """
        return [self._label(sample.label) for sample in self._samples[clip.id] if sample.label]

    def _rgb(self, path: Path) -> Iterator[np.ndarray]:
        if path.is_dir():
            for picture in _pictures(path):
                yield self._checked(np.asarray(open_rgb(picture)), picture)
        else:
            for frame in read_frames(path):
                yield self._checked(frame, path)

    def _label(self, path: Path) -> Iterator[np.ndarray]:
        for picture in _pictures(path):
            labels = np.asarray(open_labels(picture, self.space))
            self.space.check(labels, str(picture))
            yield self._checked(labels, picture)

    def _checked(self, frame: np.ndarray, path: Path) -> np.ndarray:
        if frame.shape[:2] != self.size:
            raise DataError(
                f"{path}: a frame of {frame.shape[0]}x{frame.shape[1]} (height x width), but "
                f"dataset.size is {self.size[0]}x{self.size[1]}; frames are compared as they are, "
                "so resize them or set dataset.size"
            )
        return frame


def folder_digest(root: Path) -> str:
    """SHA-256 over the names and bytes of all files below `root`, in hex; reads all of them."""
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        line = f"{path.relative_to(root).as_posix()} {file_digest(path)}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def write_clip_list(path: Path, clips: Sequence[PredictedClip]) -> None:
    """Write which clips are evaluated as CSV: what the folders are named by and must hold."""
    columns = ("clip", *ClipId._fields, "context", "horizon")
    rows = (
        {"clip": c.id, **c.clip._asdict(), "context": c.context, "horizon": c.horizon}
        for c in clips
    )
    write_csv(path, columns, rows)


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEOS and path.is_file()


def _sample(path: Path) -> _Sample:
    if not path.is_dir():
        return _Sample(path, None)
    rgb = [p for p in path.iterdir() if p.stem == "rgb" and (p.is_dir() or _is_video(p))]
    label = path / "label"
    if len(rgb) > 1 or not (rgb or label.is_dir()):
        raise DataError(
            f"{path}: {'more than one rgb' if rgb else 'neither rgb nor label'}; expected a "
            "folder rgb/ or a video rgb.mp4, a folder label/, or both"
        )
    return _Sample(rgb[0] if rgb else None, label if label.is_dir() else None)


def _pictures(folder: Path) -> list[Path]:
    return in_frame_order(p for p in _visible(folder) if p.suffix.lower() in _PICTURES)


def _check_count(path: Path, clip: PredictedClip) -> None:
    found = len(_pictures(path)) if path.is_dir() else count_frames(path)
    if found == clip.horizon:
        return
    with_context = found == clip.horizon + clip.context
    hint = f"leave out the {clip.context} context frames" if with_context else (
        "predict as many, or set dataset.rules.n_eval"
    )  # fmt: skip
    raise DataError(
        f"{path}: {found} frames, expected the {clip.horizon} predicted ones of clip {clip.id}; "
        f"{hint}"
    )
