"""DensePose video reader: body part maps in the layout of the published code.

    <root>/split.json                            {"train": {"V00001": ["C00002", ...]}, ...}
    <root>/V00001/C00002/frame000003_IUV.png     third channel = part index 0..24
    <frames_root>/V00001/C00002/frame000003.jpg  optional RGB (or .png)

Config: `dataset=densepose`. A recording is one clip, or one of its runs where frames are missing
(`<video>/<clip>-<first frame>`).
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from hvp.data.images import resize_center_crop
from hvp.data.readers.base import SPLITS, Skip, Split
from hvp.data.readers.exclusion import check_excluded, excludes
from hvp.data.readers.file_reader import (
    FileReader,
    RecordingFiles,
    check_splits,
    files_by_number,
    split_at_gaps,
)
from hvp.data.readers.media_files import found_instead
from hvp.errors import DataError
from hvp.files import check_inner_path, read_json
from hvp.labels import DENSEPOSE, Size
from hvp.pictures import open_picture
from hvp.records import parse

_LABELS = re.compile(r"frame(\d{6})_IUV\.png", re.IGNORECASE)
_FRAME = re.compile(r"frame(\d{6})\.(?:png|jpe?g)", re.IGNORECASE)
_INSTANCES = re.compile(r"frame(\d{6})_INDS\.png", re.IGNORECASE)
"""Person numbers, which DensePose writes beside its IUV images."""


class DensePoseReader(FileReader):
    """Reader of videos of people as 25-class body part maps."""

    name = "densepose"
    label_space = DENSEPOSE

    def __init__(
        self,
        root: str | Path,
        frames_root: str | Path | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        """Args:
        root: folder with `split.json` and the IUV images.
        frames_root: folder of the RGB frames, the same tree; None = also `root`.
        exclude: clips to leave out, as `V00001/C00002` or `V00001/*` (see `FileReader`).

        Raises:
            DataError: a root does not exist.
        """
        rgb_root = root if frames_root is None else frames_root
        super().__init__(rgb_root, labels_root=root, exclude=exclude)

    def scan(self) -> list[RecordingFiles]:
        """Index the clips that split.json names."""
        sources = []
        check_excluded(self.excluded_names, self._named, (self.root, self.labels_root))
        for split, clips in self._clips().items():
            for clip in clips:
                if not excludes(self.excluded_names, clip):
                    sources += self._runs(clip, split)
        check_splits(sources, self.name, ("train", "test"))
        return sources

    def excluded(self) -> list[Skip]:
        """Clips that exist but are excluded or not named in split.json."""
        named = self._named
        found = {
            folder.relative_to(self.labels_root).as_posix(): len(files_by_number(folder, _LABELS))
            for folder in sorted(self.labels_root.glob("*/*/"))
        }
        others = {clip: n for clip, n in found.items() if n and clip not in named}
        skips = [Skip("not named in split.json", tuple(others), sum(others.values()))]
        out = {clip: found.get(clip, 0) for clip in named if excludes(self.excluded_names, clip)}
        if out:
            reason = "excluded clip (dataset.datamodule.exclude)"
            skips.append(Skip(reason, tuple(sorted(out)), sum(out.values())))
        return skips

    def enters(self, folder: PurePosixPath) -> bool:
        """See `FileReader`: not those of clips that are not named in split.json."""
        if len(folder.parts) != 2 or folder.as_posix() in self._named:
            return True
        return not files_by_number(self.labels_root / folder, _LABELS)

    @cached_property
    def _named(self) -> frozenset[str]:
        """Clips that split.json names."""
        return frozenset(clip for clips in self._clips().values() for clip in clips)

    def _clips(self) -> dict[Split, list[str]]:
        path = self.labels_root / "split.json"
        remedy = 'expected {"train": {"V00001": ["C00001", ...]}, "test": {...}}'
        try:
            content = parse(dict[str, dict[str, list[str]]], read_json(path, DataError, remedy))
            named = {
                split: [_inner_folder(video, clip) for video in videos for clip in videos[video]]
                for split, videos in content.items()
            }
            clips = [clip for of_split in named.values() for clip in of_split]
            if len(set(clips)) < len(clips):
                (repeated, _), *_ = Counter(clips).most_common(1)
                raise ValueError(f"the clip {repeated!r:.80} twice")
        except ValueError as error:
            raise DataError(f"{path}: cannot be read ({error}); {remedy}") from error
        unknown = sorted(set(named) - set(SPLITS))
        if unknown:
            raise DataError(f"{path}: unknown split {unknown[0]!r}; expected {', '.join(SPLITS)}")
        return {split: named[split] for split in SPLITS if split in named}

    def _runs(self, clip: str, split: Split) -> list[RecordingFiles]:
        labels = files_by_number(self.labels_root / clip, _LABELS)
        if not labels:
            raise DataError(
                f"{self.labels_root / clip}: no frame<6 digits>_IUV.png, but split.json names it"
                f"{found_instead(self.labels_root / clip)}; add the clip, take it out of "
                "split.json, or exclude it (dataset.datamodule.exclude)"
            )
        frames = files_by_number(self.root / clip, _FRAME)
        self.explained.update(files_by_number(self.labels_root / clip, _INSTANCES).values())
        return list(split_at_gaps(clip, split, labels, frames).values())

    def decode_labels(self, path: Path) -> Image.Image:
        """Part index: third channel of an IUV image."""
        picture = open_picture(path)
        if picture.format != "PNG" or picture.stored not in ("RGB", "RGBA"):
            raise DataError(
                f"{path}: expected an IUV image (8-bit RGB PNG, third channel = part index), found "
                f"{picture.format} of mode {picture.stored}; save it as DensePose gave it"
            )
        return picture.image.getchannel(2)

    def preprocessing(self) -> dict[str, Any]:
        """Resizing constants."""
        return {"rule": "cover"}

    def transform(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Resize to cover `size`, then center-crop."""
        return resize_center_crop(image, size, resample)


def _inner_folder(video: str, clip: str) -> str:
    """Path of a clip's folder below the root."""
    if "/" in video or "/" in clip:
        raise ValueError(f"the clip {f'{video}/{clip}'!r:.80}, a folder in a folder is expected")
    return check_inner_path(f"{video}/{clip}")
