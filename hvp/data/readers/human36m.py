"""Human3.6M reader (vision.imar.ro/human3.6m): body part maps rendered from 2D joints.

    <root>/S1/MyPoseFeatures/D2_Positions/Directions 1.54138969.cdf   joints, or an .npz of them
    <root>/S1/Videos/Directions 1.54138969.mp4                        optional RGB, stage two only

The videos' suffix may be another one of `hvp.data.readers.media_files.VIDEO_SUFFIXES`.

Config: `dataset=human36m`. A recording is one take seen by one camera. A fixed crop box around the
person in the whole take is cut out, so that the person moves in the image, and the part maps are
rendered at the target size. Takes without a video serve stage one only. A video may be longer than
its poses (the rest is dropped), but not shorter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from hvp.clips import Channel
from hvp.data.images import BILINEAR
from hvp.data.readers.base import Recording, Skip, Split, source_digest
from hvp.data.readers.joint_files import Take, open_joint_files
from hvp.data.readers.media_files import (
    VIDEO_SUFFIXES,
    media_files,
    unread_media,
    unread_rows,
)
from hvp.data.videos import count_frames
from hvp.errors import ConfigError, DataError
from hvp.labels import DENSEPOSE, Size
from hvp.media import read_frames
from hvp.worlds.body.capsules import bounding_box, capsules
from hvp.worlds.body.part_maps import part_map

_BODY_VERSION = 1
"""Version of the part-map rendering; raise it when the code changes its output."""
_RENAMED = {"Photo": "TakingPhoto", "WalkDog": "WalkingDog"}
"""Actions that VideoPose3D's file renames; some subjects' videos have the other name."""


class Human36MReader:
    """Reader of Human3.6M, or of any 2D joints in its order, as 25-class body part maps."""

    name = "human36m"
    label_space = DENSEPOSE

    def __init__(
        self,
        root: str | Path,
        train: Sequence[str],
        val: Sequence[str],
        test: Sequence[str],
        cameras: Sequence[str],
        exclude: Sequence[str],
        margin: float,
        joints: str | Path | None = None,
    ) -> None:
        """Args:
        root: folder of the subjects.
        train: training subjects, less those of `val`.
        val: validation subjects.
        test: test subjects.
        cameras: camera numbers to read, in the order of VideoPose3D's file.
        exclude: excluded takes, as `S11/Directions.54138969` or, for all cameras,
            `S11/Directions`.
        margin: margin of the crop box around the person, as a fraction of its side.
        joints: an `.npz` file of joints, below `root` or anywhere; None = the `.cdf` files.

        Raises:
            ConfigError: a test subject also trains or validates, or the margin is out of range.
            DataError: `root` does not exist.
        """
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(
                f"dataset {self.name!r}: {self.root} is not a folder; point data_root at the "
                "folder of S1, S5, ..."
            )
        both = (set(train) | set(val)) & set(test)
        if both:
            raise ConfigError(
                f"dataset.datamodule.test: {sorted(both)} also in train or val; a subject is "
                "tested or learnt from, not both"
            )
        if not 0 <= margin < 0.5:
            raise ConfigError(f"dataset.datamodule.margin={margin}: expected 0 <= margin < 0.5")
        subjects: dict[Split, Sequence[str]] = {"train": train, "val": val, "test": test}
        # Validation comes after training: it holds subjects out.
        self._split: dict[str, Split] = {s: split for split in subjects for s in subjects[split]}
        self.cameras = tuple(str(camera) for camera in cameras)
        self.exclude = frozenset(exclude)
        self.margin = margin
        self._videos: dict[str, dict[str, list[Path]]] = {}
        self._npz = None if joints is None else self.root / joints
        self._files = open_joint_files(self.root, joints, self.cameras)

    @cached_property
    def _takes(self) -> dict[str, Take]:
        known = [take for take in self._files.takes() if take.subject in self._split]
        takes = {take.name: take for take in known if not _names_of(take) & self.exclude}
        unknown = sorted(self.exclude.difference(*map(_names_of, known)))
        if unknown:
            raise DataError(
                f"dataset.datamodule.exclude: {unknown[0]!r} excludes nothing, the first take is "
                f"{known[0].name if known else 'missing'!r}; correct it or take it out"
            )
        found = {take.subject for take in takes.values()}
        missing = sorted(set(self._split) - found)
        if missing:
            raise DataError(
                f"dataset {self.name!r}: no joints of subject {missing[0]!r} in {self.root}; "
                "complete the dataset or name the subjects there are (dataset.datamodule.train, "
                "val, test)"
            )
        return takes

    def skipped(self) -> list[Skip]:
        """Excluded takes of the named subjects, and all takes of other subjects."""
        left_out = [take for take in self._files.takes() if take.name not in self._takes]
        reasons = {
            "excluded take (dataset.datamodule.exclude)": True,
            "subject of no split (dataset.datamodule.train, val, test)": False,
        }
        skips = []
        for reason, named in reasons.items():
            takes = [take for take in left_out if (take.subject in self._split) == named]
            n_frames = sum(take.n_frames for take in takes)
            skips.append(Skip(reason, tuple(take.name for take in takes), n_frames))
        return [*skips, *unread_rows(self._unread())]

    def _unread(self) -> dict[Path, PurePosixPath]:
        """Pictures and videos that no rule takes, with their paths below the root."""
        every = self._files.takes()
        others = {take.subject for take in every} - set(self._split)
        known = {self._video(take) for take in every if take.subject in self._split}
        found = unread_media(self.root, lambda folder: folder.parts[0] not in others, known)
        return {file: below for file, below in found.items() if not self._is_left_out(below)}

    def _is_left_out(self, file: PurePosixPath) -> bool:
        """Whether a video is one of a calibration (`_ALL`) or of a camera that is not read."""
        camera = file.stem.rpartition(".")[2]
        return file.parent.name == "Videos" and (
            file.name.startswith("_") or (camera.isdecimal() and camera not in self.cameras)
        )

    def recordings(self) -> list[Recording]:
        """All takes of the named subjects, in the order of their files."""
        return [
            Recording(
                take.name,
                self._split[take.subject],
                take.n_frames,
                ("labels", "frames") if self._video(take) else ("labels",),
            )
            for take in self._takes.values()
        ]

    @cached_property
    def _settings(self) -> dict[str, Any]:
        paths = {take.path for take in self._takes.values()}
        paths |= {video for take in self._takes.values() if (video := self._video(take))}
        # The joints' .npz file counts by name alone: it may lie outside of the root.
        files = [(p.parent if p == self._npz else self.root, p) for p in paths]
        files.sort(key=lambda pair: pair[1].relative_to(pair[0]))
        return {
            "reader": self.name,
            "label_space": asdict(self.label_space),
            "preprocessing": {"body": _BODY_VERSION, "margin": self.margin},
            "recordings": [[r.name, r.split, r.n_frames] for r in self.recordings()],
            "source": source_digest(files),
        }

    def settings(self) -> dict[str, Any]:
        """Settings that determine the prepared data, as plain JSON values, without any path."""
        return self._settings

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        """Frame iterator: rendered part maps, cropped RGB; see `hvp.data.readers.base.Reader`."""
        take = self._takes[recording.name]
        joints = self._files.joints(take)
        left, top, width, height = crop_box(joints, self.margin, size)
        scale = np.array([size[1] / width, size[0] / height])
        # Pixel centres have whole coordinates here and there.
        body = capsules((joints + 0.5 - (left, top)) * scale - 0.5)
        video = self._frames(take) if "frames" in channels else None
        for index in range(take.n_frames):
            arrays: dict[Channel, np.ndarray] = {}
            if "labels" in channels:
                arrays["labels"] = part_map(body, index, size)
            if video is not None:
                window = (left, top, left + width, top + height)
                arrays["frames"] = crop(next(video), window, size)
            yield arrays
        if video is not None:
            next(video, None)  # a video that lacks frames after the last pose raises here

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        """File and index of one frame, for error messages."""
        take = self._takes[recording.name]
        path = self._video(take) if channel == "frames" else take.path
        return f"{path}, {recording.name}, frame {frame}"

    def _video(self, take: Take) -> Path | None:
        """Video file of a take, or None."""
        names = [take.stem]
        names += [
            take.stem.replace(a, b, 1) for a, b in _RENAMED.items() if take.stem.startswith(a)
        ]
        videos = self._videos_of(take.subject)
        found = next((videos[name] for name in names if name in videos), [])
        if len(found) > 1:
            raise DataError(
                f"{found[0]}: {found[1]} is there too, and both are the video of {take.name}; "
                "remove one"
            )
        return found[0] if found else None

    def _videos_of(self, subject: str) -> dict[str, list[Path]]:
        """Videos of a subject, by their names without suffix."""
        if subject not in self._videos:
            found: dict[str, list[Path]] = {}
            folder = self.root / subject / "Videos"
            for file in media_files(folder, lambda _: True) if folder.is_dir() else ():
                if file.suffix.lower() in VIDEO_SUFFIXES:
                    name = file.relative_to(folder).as_posix().removesuffix(file.suffix)
                    found.setdefault(name, []).append(file)
            self._videos[subject] = found
        return self._videos[subject]

    def _frames(self, take: Take) -> Iterator[np.ndarray]:
        """Frames of a take's video, which is decoded to its end: that verifies its length."""
        path = self._video(take)
        assert path is not None, "asked for frames of a recording without them"
        count = 0
        for frame in read_frames(path):
            if count < take.n_frames:
                yield frame
            count += 1
        promised = count_frames(path)
        if count < max(take.n_frames, promised):
            raise DataError(
                f"{path}: {count} frames found, expected at least {take.n_frames}, as many as the "
                f"poses in {take.path}, and {promised} by its header; get the video again or "
                f"leave the take out (dataset.datamodule.exclude=['{take.name}'])"
            )


def _names_of(take: Take) -> set[str]:
    """Names by which a take can be excluded: alone, or with all cameras."""
    return {take.name, f"{take.subject}/{take.action}"}


def crop_box(
    joints_TJ2: np.ndarray, margin: float, size: Size
) -> tuple[float, float, float, float]:
    """Crop box of a whole take: left, top, width and height, in pixels of the joints.

    The smallest box with the aspect ratio of `size` around the body in all frames, with `margin`
    (fraction of its width and height) on each side.
    """
    left, top, right, bottom = bounding_box(capsules(joints_TJ2)).tolist()
    share = 1 - 2 * margin
    unit = max((right - left) / share / size[1], (bottom - top) / share / size[0])
    width, height = unit * size[1], unit * size[0]
    # From outlines (pixel centres) to the edges of a window: half a pixel further.
    x, y = (left + right) / 2 + 0.5, (top + bottom) / 2 + 0.5
    return x - width / 2, y - height / 2, width, height


def crop(frame: np.ndarray, window: tuple[float, float, float, float], size: Size) -> np.ndarray:
    """Crop (left, top, right, bottom) of an RGB frame, resized to `size` (H, W, 3) uint8; pixels
    outside the frame are black.
    """
    left, top, right, bottom = window
    height, width, _ = frame.shape
    before_y, after_y = (max(0, int(np.ceil(n))) for n in (-top, bottom - height))
    before_x, after_x = (max(0, int(np.ceil(n))) for n in (-left, right - width))
    if before_y or after_y or before_x or after_x:
        frame = np.pad(frame, ((before_y, after_y), (before_x, after_x), (0, 0)))
    box = (left + before_x, top + before_y, right + before_x, bottom + before_y)
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), BILINEAR, box=box))
