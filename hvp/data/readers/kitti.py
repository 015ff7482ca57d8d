"""KITTI raw reader, synced and rectified drives (Geiger et al. 2013; cvlibs.net).

    <root>/2011_09_26/2011_09_26_drive_0001_sync/image_03/data/0000000005.png
    <labels_root>/2011_09_26/2011_09_26_drive_0001_sync/image_03/data/color_mask_0000000005.png

Frames may be JPEG too (`0000000005.jpg`), label maps are PNG.

Config: `dataset=kitti`. A recording is one drive, or one of its runs where frames are missing
(`<drive>-<first frame>`). Stage one needs no RGB (labels_root only). A drive without any label map
gets pseudo-labels (`hvp.data.segformer.extraction`).
"""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from hvp.data.images import resize
from hvp.data.readers.base import SPLITS, Skip, Split
from hvp.data.readers.file_reader import (
    FileReader,
    RecordingFiles,
    check_splits,
    files_by_number,
    split_at_gaps,
)
from hvp.data.readers.media_files import found_instead
from hvp.data.segformer.extraction import LabelExtractor
from hvp.errors import DataError
from hvp.labels import CITYSCAPES, Size

_DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}_sync")
_ANY_DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}(?:_\w+)?")
_SENSOR = re.compile(r"image_\d\d|oxts|velodyne_points|proj_depth")
"""Folders of a drive: one per sensor, and depth maps; only that of `camera` is read."""
_LABELS = re.compile(r"color_mask_(\d{10})\.png", re.IGNORECASE)
_FRAME = re.compile(r"(\d{10})\.(?:png|jpe?g)", re.IGNORECASE)


class KITTIReader(FileReader):
    """Reader of KITTI raw drives with Cityscapes label maps."""

    name = "kitti"
    label_space = CITYSCAPES
    label_depth = 2

    def __init__(
        self,
        root: str | Path,
        val: Sequence[str],
        test: Sequence[str],
        exclude: Sequence[Sequence[str]],
        view_size: Sequence[int],
        labels_root: str | Path | None = None,
        camera: str = "image_03",
        extract_labels: LabelExtractor | None = None,
    ) -> None:
        """Args:
        root: folder with one folder per date.
        val: validation drives, as `2011_09_26_drive_0005`.
        test: test drives.
        exclude: excluded ranges of drives, as (first, last) pairs, both included.
        view_size: every image is scaled to this height, keeping the aspect ratio, center-cropped
            to this width, and then resized to the target size.
        labels_root: folder of the label maps, the same tree; None = also `root`.
        camera: folder name of the camera.
        extract_labels: pseudo-labels for drives without label maps; None = they must be given.

        Raises:
            DataError: a root does not exist.
        """
        super().__init__(root, labels_root, extract_labels)
        self.val = tuple(val)
        self.test = tuple(test)
        self.exclude = tuple((first, last) for first, last in exclude)
        self.view_height, self.view_width = view_size
        self.camera = camera

    def scan(self) -> list[RecordingFiles]:
        """Index the drives, without the excluded ones, split at gaps."""
        sources: list[RecordingFiles] = []
        for drive in self._drives:
            if self._is_excluded(Path(drive).name):
                continue
            folder = Path(drive) / self.camera / "data"
            labels, frames = self._files(drive)
            if not labels and not frames:
                raise DataError(
                    f"{self.root / folder}: no frame <10 digits>.png or .jpg"
                    f"{found_instead(self.root / folder, self.labels_root / folder)}; rename its "
                    "frames, copy the drive again, or exclude it (dataset.datamodule.exclude)"
                )
            extracted = not labels and self.extracted_root is not None
            if extracted:
                labels = self._to_extract(folder, frames)
            if not labels:
                others = found_instead(self.labels_root / folder, but=frames.values())
                raise DataError(
                    f"{self.labels_root / folder}: no label maps color_mask_<10 digits>.png for "
                    f"the {len(frames)} frames of this drive{others}; set labels_root, have them "
                    "made (dataset.extract_labels), or exclude the drive "
                    "(dataset.datamodule.exclude)"
                )
            split = self._split(Path(drive).name)
            sources += split_at_gaps(drive, split, labels, frames, extracted).values()
        check_splits(sources, self.name, SPLITS)
        return sources

    def _to_extract(self, folder: Path, frames: dict[int, Path]) -> dict[int, Path]:
        assert self.extracted_root is not None
        tree = self.extracted_root / folder
        return {number: tree / f"color_mask_{number:010d}.png" for number in frames}

    def excluded(self) -> list[Skip]:
        """Excluded drives that exist, and drives without the camera or of another kind."""
        drives = tuple(d for d in self._drives if self._is_excluded(Path(d).name))
        n_frames = sum(max(map(len, self._files(drive))) for drive in drives)
        skips = [Skip("excluded drive (dataset.datamodule.exclude)", drives, n_frames)]
        if self._other_drives:
            reason = f"no synced drive with {self.camera} (dataset.datamodule.camera)"
            skips.append(Skip(reason, tuple(sorted(self._other_drives)), 0))
        return skips

    def enters(self, folder: PurePosixPath) -> bool:
        """See `FileReader`: not those of excluded drives and of other sensors."""
        parts = folder.parts
        if len(parts) == 2:
            return folder.as_posix() not in self._other_drives and not (
                _DRIVE.fullmatch(parts[1]) and self._is_excluded(parts[1])
            )
        is_sensor = len(parts) == 3 and bool(_SENSOR.fullmatch(parts[2]))
        return not (is_sensor and _DRIVE.fullmatch(parts[1]) and parts[2] != self.camera)

    @cached_property
    def _other_drives(self) -> frozenset[str]:
        """Drives, as `<date>/<drive>`, that have no frames of the camera or are not synced."""
        found = {
            folder.relative_to(root).as_posix()
            for root in {self.root, self.labels_root}
            for folder in root.glob("*/*_drive_*/")
            if _ANY_DRIVE.fullmatch(folder.name)
        }
        return frozenset(found - set(self._drives))

    def _files(self, drive: str) -> tuple[dict[int, Path], dict[int, Path]]:
        """Label maps and RGB frames of a drive, by frame number."""
        folder = Path(drive) / self.camera / "data"
        return files_by_number(self.labels_root / folder, _LABELS), files_by_number(
            self.root / folder, _FRAME
        )

    @cached_property
    def _drives(self) -> list[str]:
        """Drives with frames or label maps, as `<date>/<drive>_sync`."""
        pattern = f"*/*_sync/{self.camera}/data"
        found = {
            folder.relative_to(root).parents[1].as_posix()
            for root in {self.root, self.labels_root}
            for folder in root.glob(pattern)
            if _DRIVE.fullmatch(folder.parents[1].name)
        }
        if not found:
            raise DataError(
                f"{self.root}: no <date>/<drive>_sync/{self.camera}/data; point data_root at the "
                "folder of KITTI raw that holds the dates"
            )
        return sorted(found)

    def _is_excluded(self, drive: str) -> bool:
        number = drive.removesuffix("_sync")
        return any(first <= number <= last for first, last in self.exclude)

    def _split(self, drive: str) -> Split:
        number = drive.removesuffix("_sync")
        if number in self.test:
            return "test"
        return "val" if number in self.val else "train"

    def preprocessing(self) -> dict[str, Any]:
        """Cropping and resizing constants."""
        return {"rule": "kitti", "view_size": [self.view_height, self.view_width]}

    def transform(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Scale to the view's height, center-crop to its width, resize to `size`."""
        width = round(image.width * self.view_height / image.height)
        if width < self.view_width:
            raise DataError(
                f"dataset {self.name!r}: an image of {image.height}x{image.width} (height x "
                f"width) is narrower than the view {self.view_height}x{self.view_width}; "
                "is this the rectified KITTI camera?"
            )
        scaled = resize(image, (self.view_height, width), resample)
        left = (width - self.view_width) // 2
        view = scaled.crop((left, 0, left + self.view_width, self.view_height))
        return resize(view, size, resample)
