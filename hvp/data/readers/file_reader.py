"""Base reader of image and video files: indexing, pairing, decoding, resizing.

Shapes: H height, W width.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from hvp.clips import Channel
from hvp.data.images import BILINEAR, NEAREST
from hvp.data.readers.base import Recording, Skip, Split, consecutive_runs, source_digest
from hvp.data.readers.exclusion import excludes
from hvp.data.readers.made_labels import check_made_labels
from hvp.data.readers.media_files import unread_media, unread_rows
from hvp.data.segformer.extraction import LabelExtractor
from hvp.data.videos import FrameSource, open_frames, source_file
from hvp.errors import DataError
from hvp.label_pictures import open_labels
from hvp.labels import LabelSpace, Size
from hvp.pictures import open_picture


@dataclass(frozen=True)
class RecordingFiles:
    """Files of one recording, one per frame and channel, in order."""

    recording: Recording
    labels: tuple[Path, ...]
    """Label map of each frame."""
    frames: tuple[FrameSource, ...]
    """RGB of each frame, or empty."""
    extracted: tuple[Path, ...] = ()
    """Pseudo-label file of each of `frames` (`LabelExtractor`), or empty where labels are given."""

    @classmethod
    def of(
        cls,
        name: str,
        split: Split,
        labels: Sequence[Path],
        frames: Sequence[FrameSource] = (),
        extracted: Sequence[Path] = (),
    ) -> "RecordingFiles":
        """Build the recording `name` from its files."""
        channels: tuple[Channel, ...] = ("labels", "frames") if frames else ("labels",)
        recording = Recording(name, split, len(labels), channels)
        return cls(recording, tuple(labels), tuple(frames), tuple(extracted))

    def subset(self, name: str, split: Split, frames: slice = slice(None)) -> "RecordingFiles":
        """Slice of the frames, as the recording `name` of `split`."""
        return RecordingFiles.of(
            name, split, self.labels[frames], self.frames[frames], self.extracted[frames]
        )


class FileReader(ABC):
    """Base `Reader` of image and video files; a dataset adds `scan` and `transform`."""

    name: str
    label_space: LabelSpace
    label_depth: ClassVar[int] = 0
    """Number of folders from that of a sequence down to that of its label maps."""

    def __init__(
        self,
        root: str | Path,
        labels_root: str | Path | None = None,
        extract_labels: LabelExtractor | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        """Args:
        root: folder of the raw dataset.
        labels_root: folder of the label maps; None = also `root`.
        extract_labels: pseudo-labels for sequences without label maps; None = they must be
            given. A sequence never mixes both: label maps for some of its frames are an error.
        exclude: sequences to leave out, by name or pattern, and folders whose pictures are no
            data, by their path below a root (`hvp.data.readers.exclusion`).

        Raises:
            DataError: one of the folders does not exist.
        """
        self.root = Path(root)
        self.extract_labels = extract_labels
        self._labels_given = labels_root is not None
        self.labels_root = Path(root if labels_root is None else labels_root)
        if self.labels_root.resolve() == self.root.resolve():
            self.labels_root = self.root  # one spelling: files are compared by their paths
        self.excluded_names = tuple(exclude)
        self.explained: set[Path] = set()
        """Files that a rule leaves out, as far as `enters` does not say so; `scan` adds them."""
        for folder in (self.root, self.labels_root):
            if not folder.is_dir():
                raise DataError(
                    f"dataset {self.name!r}: {folder} is not a folder; point data_root (and "
                    "labels_root, where the label maps lie elsewhere) at the dataset"
                )

    @abstractmethod
    def scan(self) -> list[RecordingFiles]:
        """Index every recording and its files."""

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """Constants of `transform`, as plain JSON values; part of the settings."""

    @abstractmethod
    def transform(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Crop and resize one decoded image to `size`."""

    def decode_labels(self, path: Path) -> Image.Image:
        """Decode one label map to an image of label ids."""
        return open_labels(path, self.label_space)

    @cached_property
    def sources(self) -> dict[str, RecordingFiles]:
        """Files of every recording, by name."""
        found = self.scan()
        if not found:
            raise DataError(f"dataset {self.name!r}: no recording with label maps in {self.root}")
        if self._labels_given and all(source.extracted for source in found):
            raise DataError(
                f"labels_root={self.labels_root}: no label map of any sequence of {self.root} is "
                "there; correct it, or leave it out to have all label maps made"
            )
        if self.extracted_root is not None and any(source.extracted for source in found):
            check_made_labels(
                (self._folder(source) for source in found if source.extracted),
                self._unread(found),
                self.name,
            )
        return {source.recording.name: source for source in found}

    def _folder(self, source: RecordingFiles) -> PurePosixPath:
        """Folder of the sequence of a recording whose label maps are made, below a root."""
        assert self.extracted_root is not None
        file = source.extracted[0].relative_to(self.extracted_root)
        return PurePosixPath(file.parents[self.label_depth])

    def enters(self, folder: PurePosixPath) -> bool:
        """Whether pictures in a folder, a path below a root, could be data.

        False for folders that a rule of the dataset leaves out by name; they are not walked.
        """
        return True

    def _unread(self, sources: Iterable[RecordingFiles]) -> dict[Path, PurePosixPath]:
        """Pictures and videos below the roots that no rule takes, with their paths below a root."""
        taken = set(self.explained)
        for source in sources:
            taken.update(source.labels, map(source_file, source.frames))
        roots = dict.fromkeys((self.root, self.labels_root))
        # Roots may lie in one another, and prepared data in a root.
        others = {root.resolve() for root in roots}
        if self.extract_labels is not None:
            others.add(Path(self.extract_labels.folder).resolve())

        def enters(root: Path, folder: PurePosixPath) -> bool:
            return (
                not excludes(self.excluded_names, folder.as_posix())
                and self.enters(folder)
                and (root / folder).resolve() not in others
            )

        found: dict[Path, PurePosixPath] = {}
        for root in roots:
            found |= unread_media(root, partial(enters, root), taken)
        return found

    @cached_property
    def extracted_root(self) -> Path | None:
        """Root of the pseudo-labels; None without `extract_labels`."""
        if self.extract_labels is None:
            return None
        return self.extract_labels.tree(self.name, self.root)

    def make_labels(self) -> None:
        """Predict the missing pseudo-labels; see `hvp.data.segformer.extraction`."""
        sources = [source for source in self.sources.values() if source.extracted]
        if self.extract_labels is None or self.extracted_root is None or not sources:
            return
        jobs = [
            job for source in sources for job in zip(source.frames, source.extracted, strict=True)
        ]
        self.extract_labels.extract(self.extracted_root, jobs, self.label_space, self.name)

    def recordings(self) -> list[Recording]:
        """All recordings, in the order of `scan`."""
        return [source.recording for source in self.sources.values()]

    def excluded(self) -> list[Skip]:
        """Raw data that `scan` excludes on purpose; none by default."""
        return []

    def skipped(self) -> list[Skip]:
        """See `Reader`."""
        unread = unread_rows(self._unread(self.sources.values()))
        return [*self.excluded(), *unread]

    @cached_property
    def _settings(self) -> dict[str, Any]:
        labels, frames, extracted = [], [], []
        for source in self.sources.values():
            frames += [(self.root, file) for file in dict.fromkeys(map(source_file, source.frames))]
            made = set(source.extracted)  # determined by the frames and the model
            labels += [(self._root_of(file), file) for file in source.labels if file not in made]
            extracted += [source.recording.name] if made else []
        settings = {
            "reader": self.name,
            "label_space": asdict(self.label_space),
            "preprocessing": self.preprocessing(),
            "recordings": [[r.name, r.split, r.n_frames] for r in self.recordings()],
            "source": source_digest(labels + frames),
        }
        if extracted and self.extract_labels is not None:
            settings["extracted"] = {"by": self.extract_labels.digest, "recordings": extracted}
        return settings

    def _root_of(self, label: Path) -> Path:
        """Root folder of a label map: the innermost where one root contains the other."""
        roots = [r for r in (self.labels_root, self.root) if label.is_relative_to(r)]
        return max(roots, key=lambda root: len(root.parts))

    def settings(self) -> dict[str, Any]:
        """Settings that determine the prepared data, as plain JSON values, without any path."""
        return self._settings

    def read(
        self, recording: Recording, size: Size, channels: Sequence[Channel]
    ) -> Iterator[dict[Channel, np.ndarray]]:
        """Frame iterator, preprocessed at `size`; see `hvp.data.readers.base.Reader`."""
        source = self.sources[recording.name]
        images = open_frames(source.frames) if "frames" in channels else None
        for index, label_path in enumerate(source.labels):
            arrays: dict[Channel, np.ndarray] = {}
            labels = self.decode_labels(label_path) if "labels" in channels else None
            if labels is not None:
                arrays["labels"] = np.asarray(self.transform(labels, size, NEAREST))
            if images is not None:
                rgb = next(images)
                paired = open_picture(label_path).image if labels is None else labels
                self.check_sizes(
                    (rgb.height, rgb.width),
                    (paired.height, paired.width),
                    str(source.frames[index]),
                )
                arrays["frames"] = np.asarray(self.transform(rgb, size, BILINEAR))
            yield arrays
        if images is not None:
            next(images, None)  # a video that is longer than its header says raises here

    def check_sizes(self, rgb: Size, labels: Size, where: str) -> None:
        """Size check of a frame against its label map.

        Raises:
            DataError: the sizes (height, width) differ.
        """
        if rgb != labels:
            raise DataError(
                f"{where}: RGB is {rgb[0]}x{rgb[1]} but its label map is {labels[0]}x{labels[1]} "
                "(height x width); make the label maps at the size of the RGB frames"
            )

    def where(self, recording: Recording, channel: Channel, frame: int) -> str:
        """File of one frame, for error messages."""
        source = self.sources[recording.name]
        return str((source.frames if channel == "frames" else source.labels)[frame])


def check_splits(sources: Sequence[RecordingFiles], dataset: str, wanted: Sequence[Split]) -> None:
    """Split check: every split of `wanted` has a recording.

    Raises:
        DataError: one has none.
    """
    found = {source.recording.split for source in sources}
    for split in wanted:
        if split not in found:
            raise DataError(
                f"dataset {dataset!r}: no recording in split {split!r} "
                f"(found {len(sources)} recordings); check data_root and the split's names"
            )


def files_by_number(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Files of a folder by the frame number that `pattern` captures; empty without the folder.

    Raises:
        DataError: two files have the same number.
    """
    found: dict[int, Path] = {}
    if not folder.is_dir():
        return found
    for file in sorted(folder.iterdir()):
        if match := pattern.fullmatch(file.name):
            number = int(match[1])
            if number in found:
                raise DataError(
                    f"{file}: frame {number} is there twice (also {found[number].name}); remove one"
                )
            found[number] = file
    return found


def split_at_gaps(
    name: str,
    split: Split,
    labels: dict[int, Path],
    frames: dict[int, Path],
    extracted: bool = False,
    longest: int | None = None,
) -> dict[int, RecordingFiles]:
    """Split a sequence at missing frame numbers into recordings, by their first frame number.

    A sequence without gaps is one recording called `name`; else each is `<name>-<first frame>`.

    Args:
        name: name of the sequence.
        split: split of its recordings.
        labels: label map files by frame number.
        frames: RGB files by frame number, or empty.
        extracted: whether the label maps are pseudo-labels.
        longest: largest number of frames of a recording; longer runs are cut. None = no limit.

    Raises:
        DataError: RGB frames and label maps have different frame numbers.
    """
    lone = sorted(labels.keys() ^ frames.keys()) if frames else []
    if lone:
        has, lacks = ("a label map", "RGB") if lone[0] in labels else ("RGB", "label map")
        raise DataError(
            f"{name}: {len(labels)} label maps but {len(frames)} RGB frames; frame {lone[0]} has "
            f"{has} but no {lacks}; complete or remove it"
        )
    numbers = sorted(labels)
    pieces = []
    for run in (numbers[piece] for piece in consecutive_runs(numbers)):
        step = longest or len(run)
        pieces += [run[first : first + step] for first in range(0, len(run), step)]
    return {
        piece[0]: RecordingFiles.of(
            name if len(pieces) == 1 else f"{name}-{piece[0]:06d}",
            split,
            [labels[n] for n in piece],
            [frames[n] for n in piece] if frames else (),
            [labels[n] for n in piece] if extracted else (),
        )
        for piece in pieces
    }
