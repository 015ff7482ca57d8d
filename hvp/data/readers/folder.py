"""Reader of custom datasets: one folder or video per sequence.

    <root>/<sequence>/rgb/*.png|jpg    RGB frames, in the natural order of their names, or
    <root>/<sequence>/rgb.mp4          the same as a video, or
    <root>/<sequence>.mp4              a video alone (or .m4v, .mov, .mkv, .avi, .webm)
    <labels_root>/<sequence>/label/*.png   label maps, 8-bit ids (mode L or P), in the same order

Suffixes count in any case. A picture of another kind in rgb/ or label/ is an error.

Config: `dataset=folder`. Frames are consecutive and of one camera. RGB files and label maps pair up
by file stem, a video's frames and label maps by index. Stage one needs label maps only; a sequence
with RGB and no label map gets pseudo-labels (`hvp.data.segformer.extraction`). Images are resized
to cover the target size, keeping the aspect ratio, and center-cropped (labels nearest, RGB
bilinear).

Splits, unless given by name: the last sequence in name order is the test split. Validation is the
sequence before it if there are five or more, else the last fifth of the longest training sequence.
A single sequence is cut in time: three fifths train, one validates, one tests. A piece of a cut
sequence is called `<sequence>-<first frame>`.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from hvp.data.frame_order import in_frame_order
from hvp.data.images import resize_center_crop
from hvp.data.readers.base import SPLITS, Skip, Split
from hvp.data.readers.exclusion import check_excluded, excludes
from hvp.data.readers.file_reader import FileReader, RecordingFiles, check_splits
from hvp.data.readers.media_files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    found_instead,
    is_media,
    media_files,
    named,
)
from hvp.data.segformer.extraction import LabelExtractor
from hvp.data.videos import FrameSource, VideoFrame, source_file, video_frames
from hvp.errors import DataError
from hvp.labels import Size, load_label_space
from hvp.text import natural_key

LABEL_SUFFIXES = (".png",)


class FolderReader(FileReader):
    """Reader of sequences of label maps, RGB frames, or both, in plain folders or videos."""

    label_depth = 1

    def __init__(
        self,
        root: str | Path,
        classes: str | Path = "cityscapes",
        val: Sequence[str] | None = None,
        test: Sequence[str] | None = None,
        name: str = "folder",
        labels_root: str | Path | None = None,
        extract_labels: LabelExtractor | None = None,
        exclude: Sequence[str] = (),
    ) -> None:
        """Args:
        root: folder with one folder, or one video, per sequence.
        classes: class file or name of a built-in label space (`hvp.labels.load_label_space`).
        val: validation sequences by name; None = chosen as described above.
        test: test sequences by name; None = the last one.
        name: dataset name in the clip store and in reports.
        labels_root: folder of the label maps, the same tree; None = also `root`.
        extract_labels: pseudo-labels for sequences without label maps; None = they must be given.
        exclude: sequences to leave out, by name or pattern (see `FileReader`).

        Raises:
            DataError: a root does not exist or the class file is not one.
        """
        self.name = name
        self.label_space = load_label_space(classes)
        self.val = None if val is None else tuple(val)
        self.test = None if test is None else tuple(test)
        super().__init__(root, labels_root, extract_labels, exclude)

    def scan(self) -> list[RecordingFiles]:
        """Index the sequences, pair their files and assign the splits."""
        check_excluded(self.excluded_names, self._names, (self.root, self.labels_root))
        sequences = {
            name: self._sequence(name)
            for name in self._names
            if not excludes(self.excluded_names, name)
        }
        if self._names and not sequences:
            raise DataError(
                f"dataset.datamodule.exclude leaves none of the {len(self._names)} sequences in "
                f"{self.root}; exclude fewer"
            )
        if not sequences:
            others = [
                file.relative_to(root).as_posix()
                for root in dict.fromkeys((self.root, self.labels_root))
                for file in media_files(root, lambda folder: len(folder.parts) <= 2)
            ]
            found = f" (found {named(others)})" if others else ""
            raise DataError(
                f"{self.root}: no <sequence>/label, <sequence>/rgb or *.mp4{found}; "
                "dataset=folder expects one folder or video per sequence (README, 'Your own data')"
            )
        sources = self._assign_splits(sequences)
        check_splits(sources, self.name, SPLITS)
        return sources

    def excluded(self) -> list[Skip]:
        """Excluded sequences, and folders without label maps and RGB."""
        others = [f.name for f in sorted(self.root.glob("*/")) if f.name not in self._names]
        skips = [Skip("neither label/ nor RGB in it", tuple(others), 0)]
        out = [name for name in self._names if excludes(self.excluded_names, name)]
        if out:
            counts = (
                max(_count(self.root / name / "rgb"), _count(self.labels_root / name / "label"))
                for name in out
            )
            reason = "excluded sequence (dataset.datamodule.exclude)"
            skips.append(Skip(reason, tuple(out), sum(counts)))
        return skips

    @cached_property
    def _names(self) -> list[str]:
        names = {
            folder.name
            for root in {self.root, self.labels_root}
            for folder in root.iterdir()
            if (folder / "label").is_dir() or _rgb_sources(folder)
        }
        return sorted(names | self._videos.keys(), key=lambda name: (natural_key(name), name))

    @cached_property
    def _videos(self) -> dict[str, list[Path]]:
        """Videos that lie directly in the root, by sequence."""
        found: dict[str, list[Path]] = {}
        for file in _videos_in(self.root):
            found.setdefault(file.stem, []).append(file)
        return found

    def _sequence(self, name: str) -> RecordingFiles:
        folder = self.root / name
        given = _rgb_sources(folder) + self._videos.get(name, [])
        if len(given) > 1:
            raise DataError(
                f"{given[0]}: {given[1]} is there too, and both are the RGB of sequence {name!r}; "
                "remove one"
            )
        frames: list[FrameSource] = []
        if given:
            rgb = given[0]
            frames += _list_images(rgb, IMAGE_SUFFIXES) if rgb.is_dir() else video_frames(rgb)
        label_folder = self.labels_root / name / "label"
        labels = _list_images(label_folder, LABEL_SUFFIXES) if label_folder.is_dir() else []
        if given and not frames:
            raise DataError(f"{given[0]}: no picture of the RGB in it; add it or remove the folder")
        extracted: list[Path] = []
        if not labels and frames and self.extracted_root is not None:
            tree = self.extracted_root / name / "label"
            labels = extracted = [tree / f"{_stem(frame)}.png" for frame in frames]
        if not labels:
            raise DataError(
                f"{label_folder}: no *.png for the {len(frames)} RGB frames of this sequence"
                f"{found_instead(*self._folders_of(name))}; expected one label map per frame, RGB "
                "and dataset.extract_labels to have them made, or the sequence excluded "
                "(dataset.datamodule.exclude)"
            )
        _check_pairs(folder, labels, frames)
        return RecordingFiles.of(name, "train", labels, frames, extracted)

    def _folders_of(self, name: str) -> list[Path]:
        """Folders of a sequence that could hold its label maps under another name."""
        roots = dict.fromkeys((self.root, self.labels_root))
        folders = [f for root in roots for f in [root / name, *sorted((root / name).glob("*/"))]]
        return [folder for folder in folders if folder.name != "rgb"]

    def _assign_splits(self, sequences: dict[str, RecordingFiles]) -> list[RecordingFiles]:
        names = list(sequences)
        for key, chosen in (("val", self.val or ()), ("test", self.test or ())):
            unknown = [name for name in chosen if name not in sequences]
            if unknown:
                gone = " (it is excluded)" if unknown[0] in self._names else ""
                raise DataError(
                    f"dataset.datamodule.{key}: no sequence {unknown[0]!r} in {self.root}{gone}; "
                    f"found {', '.join(names)}"
                )
        if len(names) == 1 and self.val is None and self.test is None:
            return _split_in_time(
                sequences[names[0]], (("train", 0.6), ("val", 0.8), ("test", 1.0))
            )

        test = self.test
        if test is None:
            test = (next(n for n in reversed(names) if n not in (self.val or ())),)
        val = self.val
        rest = [name for name in names if name not in test]
        if val is None and len(names) >= 5:
            val = (rest[-1],)
        split: dict[str, Split] = dict.fromkeys(names, "train")
        split.update(dict.fromkeys(val or (), "val"))
        split.update(dict.fromkeys(test, "test"))
        cut = max(rest, key=lambda n: len(sequences[n].labels)) if val is None and rest else None

        sources = []
        for name, source in sequences.items():
            if name == cut:
                sources += _split_in_time(source, (("train", 0.8), ("val", 1.0)))
            else:
                sources.append(source.subset(name, split[name]))
        return sources

    def preprocessing(self) -> dict[str, Any]:
        """Resizing constants."""
        return {"rule": "cover"}

    def transform(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Resize to cover `size`, then center-crop."""
        return resize_center_crop(image, size, resample)


def _rgb_sources(folder: Path) -> list[Path]:
    """RGB folder and RGB video of a sequence, where they exist."""
    frames = [folder / "rgb"] if (folder / "rgb").is_dir() else []
    return frames + [video for video in _videos_in(folder) if video.stem == "rgb"]


def _videos_in(folder: Path) -> list[Path]:
    """Videos that lie directly in a folder, in the order of their names; none without it."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [f for f in files if is_media(f.name) and f.suffix.lower() in VIDEO_SUFFIXES]


def _list_images(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Pictures in a folder, in the natural order of their names.

    Raises:
        DataError: a picture or video of another kind is among them, or the order is ambiguous.
    """
    files = [file for file in sorted(folder.iterdir()) if is_media(file.name)]
    others = [file for file in files if file.suffix.lower() not in suffixes]
    if others:
        raise DataError(
            f"{others[0]}: is not read, {folder.name}/ holds {' or '.join(suffixes)} "
            f"({_how_many(others)} of {len(files)}); convert them"
            f"{' without loss' if suffixes == LABEL_SUFFIXES else ''}, or move them away"
        )
    return in_frame_order(files)


def _how_many(files: Sequence[Path]) -> str:
    return "this one" if len(files) == 1 else f"{len(files)} such files"


def _count(folder: Path) -> int:
    """Number of pictures in a folder; 0 without it."""
    return sum(is_media(file.name) for file in folder.iterdir()) if folder.is_dir() else 0


def _stem(frame: FrameSource) -> str:
    return f"{frame.index:06d}" if isinstance(frame, VideoFrame) else frame.stem


def _check_pairs(folder: Path, labels: Sequence[Path], frames: Sequence[FrameSource]) -> None:
    """Pairing check: every label map has its RGB frame, where there is RGB.

    Raises:
        DataError: one has none, or the other way round.
    """
    if not frames:
        return
    if isinstance(frames[0], VideoFrame):
        if len(frames) != len(labels):
            raise DataError(
                f"{source_file(frames[0])}: {len(frames)} frames but {len(labels)} label maps in "
                f"{folder / 'label'}; give one label map per frame of the video"
            )
        return
    if [_stem(frame) for frame in frames] != [label.stem for label in labels]:
        lone = sorted({_stem(frame) for frame in frames} ^ {label.stem for label in labels})
        raise DataError(
            f"{folder}: {len(labels)} label maps but {len(frames)} RGB frames do not pair up "
            f"by name (for example {lone[0] if lone else 'twice the same stem'!r}); "
            "give every frame label/<name>.png and rgb/<name>.png"
        )


def _split_in_time(
    source: RecordingFiles, parts: Sequence[tuple[Split, float]]
) -> list[RecordingFiles]:
    """Temporal split of a sequence; each part is (split, end as a fraction of the frames)."""
    pieces, first = [], 0
    for split, end in parts:
        last = round(end * len(source.labels))
        if last > first:
            name = f"{source.recording.name}-{first:06d}"
            pieces.append(source.subset(name, split, slice(first, last)))
        first = last
    return pieces
