"""Reader of custom datasets: one folder or video per sequence.

    <root>/<sequence>/rgb/*.png|jpg    RGB frames, in the natural order of their names, or
    <root>/<sequence>/rgb.mp4          the same as a video, or
    <root>/<sequence>.mp4              a video alone
    <labels_root>/<sequence>/label/*.png   label maps, 8-bit ids (mode L or P), in the same order

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
from pathlib import Path
from typing import Any

from PIL import Image

from hvp.data.frame_order import in_frame_order
from hvp.data.images import resize_center_crop
from hvp.data.readers.base import SPLITS, Skip, Split
from hvp.data.readers.file_reader import FileReader, RecordingFiles, check_splits
from hvp.data.segformer.extraction import LabelExtractor
from hvp.data.videos import FrameSource, VideoFrame, source_file, video_frames
from hvp.errors import DataError
from hvp.files import natural_key
from hvp.labels import Size, load_label_space

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
VIDEO_SUFFIX = ".mp4"


class FolderReader(FileReader):
    """Reader of sequences of label maps, RGB frames, or both, in plain folders or videos."""

    def __init__(
        self,
        root: str | Path,
        classes: str | Path = "cityscapes",
        val: Sequence[str] | None = None,
        test: Sequence[str] | None = None,
        name: str = "folder",
        labels_root: str | Path | None = None,
        extract_labels: LabelExtractor | None = None,
    ) -> None:
        """Args:
        root: folder with one folder, or one video, per sequence.
        classes: class file or name of a built-in label space (`hvp.labels.load_label_space`).
        val: validation sequences by name; None = chosen as described above.
        test: test sequences by name; None = the last one.
        name: dataset name in the clip store and in reports.
        labels_root: folder of the label maps, the same tree; None = also `root`.
        extract_labels: pseudo-labels for sequences without label maps; None = they must be given.

        Raises:
            DataError: a root does not exist or the class file is not one.
        """
        self.name = name
        self.label_space = load_label_space(classes)
        self.val = None if val is None else tuple(val)
        self.test = None if test is None else tuple(test)
        super().__init__(root, labels_root, extract_labels)

    def scan(self) -> list[RecordingFiles]:
        """Index the sequences, pair their files and assign the splits."""
        sequences = {name: self._sequence(name) for name in self._names()}
        if not sequences:
            raise DataError(
                f"{self.root}: no <sequence>/label, <sequence>/rgb or *{VIDEO_SUFFIX}; "
                "dataset=folder expects one folder or video per sequence (README, 'Your own data')"
            )
        sources = self._assign_splits(sequences)
        check_splits(sources, self.name, SPLITS)
        return sources

    def skipped(self) -> list[Skip]:
        """Folders without label maps and RGB."""
        sequences = self._names()
        others = [f.name for f in sorted(self.root.glob("*/")) if f.name not in sequences]
        return [Skip("neither label/ nor RGB in it", tuple(others), 0)]

    def _names(self) -> list[str]:
        names = {
            folder.name
            for root in {self.root, self.labels_root}
            for folder in root.iterdir()
            if (folder / "label").is_dir() or _rgb_sources(folder)
        }
        videos = {file.stem for file in self.root.glob(f"*{VIDEO_SUFFIX}") if _is_visible(file)}
        return sorted(names | videos, key=lambda name: (natural_key(name), name))

    def _sequence(self, name: str) -> RecordingFiles:
        folder = self.root / name
        given = _rgb_sources(folder) + [
            f for f in [self.root / f"{name}{VIDEO_SUFFIX}"] if f.is_file()
        ]
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
        labels = _list_images(label_folder, (".png",)) if label_folder.is_dir() else []
        extracted: list[Path] = []
        if not labels and frames and self.extracted_root is not None:
            tree = self.extracted_root / name / "label"
            labels = extracted = [tree / f"{_stem(frame)}.png" for frame in frames]
        if not labels:
            raise DataError(
                f"{label_folder}: no *.png for the {len(frames)} RGB frames of this sequence; "
                "expected one label map per frame, or RGB and dataset.extract_labels to have them "
                "made"
            )
        _check_pairs(folder, labels, frames)
        return RecordingFiles.of(name, "train", labels, frames, extracted)

    def _assign_splits(self, sequences: dict[str, RecordingFiles]) -> list[RecordingFiles]:
        names = list(sequences)
        for key, chosen in (("val", self.val or ()), ("test", self.test or ())):
            unknown = [name for name in chosen if name not in sequences]
            if unknown:
                raise DataError(
                    f"dataset.datamodule.{key}: no sequence {unknown[0]!r} in {self.root}; "
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
    frames, video = folder / "rgb", folder / f"rgb{VIDEO_SUFFIX}"
    return [path for path in (frames, video) if path.is_dir() or path.is_file()]


def _list_images(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return in_frame_order(
        f for f in folder.iterdir() if f.suffix.lower() in suffixes and _is_visible(f)
    )


def _is_visible(file: Path) -> bool:
    return not file.name.startswith(".")  # macOS leaves "._name.png" beside copied files


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
