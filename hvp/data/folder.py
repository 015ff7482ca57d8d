"""Your own data without code: `dataset=folder`.

    <root>/<sequence>/label/*.png    label maps, 8-bit ids (mode L or P)
    <root>/<sequence>/rgb/*.png|jpg  optional, one per label map, with the same file stem

Files are taken in name order and are consecutive frames of one camera. Every picture is scaled to
cover the target size, keeping its aspect, and its centre is cropped (labels nearest, RGB bilinear).

Splits, unless given by name: the last sequence in name order is the test split. Validation is the
sequence before it if there are five or more, else the last fifth of the longest training sequence.
A single sequence is cut in time: three fifths train, one validates, one tests. A piece of a cut
sequence is called `<sequence>-<first frame>`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from hvp.data.file_reader import FileReader, Source, require_every_split
from hvp.data.pictures import cover
from hvp.data.readers import SPLITS, Size, Split
from hvp.errors import DataError
from hvp.labels import load_label_space

PICTURES = (".png", ".jpg", ".jpeg")


class FolderReader(FileReader):
    """Sequences of label maps and, optionally, RGB frames in plain folders."""

    def __init__(
        self,
        root: str | Path,
        classes: str | Path = "cityscapes",
        val: Sequence[str] | None = None,
        test: Sequence[str] | None = None,
        name: str = "folder",
    ) -> None:
        """Args:
        root: folder with one folder per sequence.
        classes: a class file or a built-in name, see `hvp.labels.load_label_space`.
        val: names of the validation sequences; None = chosen as described above.
        test: names of the test sequences; None = the last one.
        name: name of the dataset in the store and in reports.

        Raises:
            DataError: `root` does not exist or the class file is not one.
        """
        self.name = name
        self.label_space = load_label_space(classes)
        self.val = None if val is None else tuple(val)
        self.test = None if test is None else tuple(test)
        super().__init__(root)

    def scan(self) -> list[Source]:
        """Find the sequences, pair their files and assign the splits."""
        whole = {
            folder.name: self._sequence(folder)
            for folder in sorted(self.root.iterdir())
            if (folder / "label").is_dir()
        }
        if not whole:
            raise DataError(
                f"{self.root}: no <sequence>/label folder; dataset=folder expects one folder per "
                "sequence with label/*.png and optional rgb/*.png (README, 'Your own data')"
            )
        sources = self._split(whole)
        require_every_split(sources, self.name, SPLITS)
        return sources

    def _sequence(self, folder: Path) -> Source:
        labels = _pictures(folder / "label", (".png",))
        if not labels:
            raise DataError(f"{folder / 'label'}: no *.png; expected one label map per frame")
        frames = _pictures(folder / "rgb", PICTURES) if (folder / "rgb").is_dir() else []
        if frames and [f.stem for f in frames] != [f.stem for f in labels]:
            lone = sorted({f.stem for f in frames} ^ {f.stem for f in labels})
            raise DataError(
                f"{folder}: {len(labels)} label maps but {len(frames)} RGB frames do not pair up "
                f"by name (for example {lone[0] if lone else 'twice the same stem'!r}); "
                "give every frame label/<name>.png and rgb/<name>.png"
            )
        return Source.of(folder.name, "train", labels, frames)

    def _split(self, whole: dict[str, Source]) -> list[Source]:
        names = list(whole)
        for key, chosen in (("val", self.val or ()), ("test", self.test or ())):
            unknown = [name for name in chosen if name not in whole]
            if unknown:
                raise DataError(
                    f"dataset.reader.{key}: no sequence {unknown[0]!r} in {self.root}; "
                    f"found {', '.join(names)}"
                )
        if len(names) == 1 and self.val is None and self.test is None:
            return _cut(whole[names[0]], (("train", 0.6), ("val", 0.8), ("test", 1.0)))

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
        cut = max(rest, key=lambda n: len(whole[n].labels)) if val is None and rest else None

        sources = []
        for name, source in whole.items():
            if name == cut:
                sources += _cut(source, (("train", 0.8), ("val", 1.0)))
            else:
                sources.append(Source.of(name, split[name], source.labels, source.frames))
        return sources

    def preprocessing(self) -> dict[str, Any]:
        """How pictures are cut and resized."""
        return {"rule": "cover"}

    def view(self, image: Image.Image, size: Size, resample: Image.Resampling) -> Image.Image:
        """Scale to cover `size` and crop the centre."""
        return cover(image, size, resample)


def _pictures(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in suffixes)


def _cut(source: Source, parts: Sequence[tuple[Split, float]]) -> list[Source]:
    """Cut a sequence in time; each part is (split, end as a fraction of the frames)."""
    pieces, first = [], 0
    for split, end in parts:
        last = round(end * len(source.labels))
        if last > first:
            name = f"{source.recording.name}-{first:06d}"
            pieces.append(
                Source.of(name, split, source.labels[first:last], source.frames[first:last])
            )
        first = last
    return pieces
