"""Palette PNG trees: export and import of prediction sets for tools that read pictures.

    <tree>/batch_00001/sample_00000/<recording>/color_mask_0000000005.png    ground truth
    <tree>/batch_00001/sample_00001/<recording>/color_mask_0000000005.png    first prediction

One batch folder per clip, counted from 1 in the order of the set. The number of a picture is the
index of its frame within the recording (`first + t * step`), ten digits as in KITTI. The value of a
pixel is its label id, the palette that of the label space. Samples hold the context frames too.

    python -m hvp.artifacts.png_tree export SET TREE
    python -m hvp.artifacts.png_tree import TREE SET --dataset NAME --labels cityscapes --context 5
"""

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import uuid4

import numpy as np
from PIL import Image

from hvp.artifacts.predictions import (
    PredictedClip,
    PredictionHeader,
    PredictionSet,
    PredictionSetWriter,
)
from hvp.clips import ClipId
from hvp.errors import ArtifactError, DataError, HVPError
from hvp.files import open_regular
from hvp.label_pictures import open_labels
from hvp.labels import LabelSpace, Size, load_label_space
from hvp.signals import orderly_exit
from hvp.text import natural_key

Truth = Callable[[PredictedClip], np.ndarray | None]
"""Ground-truth label maps (T', H, W) uint8 of a clip, T' <= T; None where there are none."""

_MOST_PIXELS_PER_BYTE = 8 * 1032  # 1-bit pixels, deflated as well as can be
_PICTURE = re.compile(r"color_mask_(\d+)\.png")


def export_png_tree(
    predictions: PredictionSet, directory: Path, truth: Truth | None = None
) -> None:
    """Export a prediction set as a tree of palette PNGs.

    Args:
        predictions: The set.
        directory: The tree to make; it must not exist yet and appears when it is complete.
        truth: Gives sample 0 of each clip; without it the samples start at 1.

    Raises:
        ArtifactError: `directory` exists, or the set is damaged.
    """
    if directory.exists():
        raise ArtifactError(f"{directory}: exists already; give the name of a new directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}.{uuid4().hex[:8]}.tmp")
    palette = predictions.header.label_space.colourise(np.arange(256)).tobytes()
    try:
        for number, (clip, samples_STHW) in enumerate(predictions, start=1):
            batch = temporary / f"batch_{number:05d}"
            maps_THW = truth(clip) if truth is not None else None
            if maps_THW is not None:
                _write_sample(batch / "sample_00000", clip, maps_THW, palette)
            for sample, maps_THW in enumerate(samples_STHW, start=1):
                _write_sample(batch / f"sample_{sample:05d}", clip, maps_THW, palette)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_sample(folder: Path, clip: PredictedClip, maps_THW: np.ndarray, palette: bytes) -> None:
    recording = PurePosixPath(clip.clip.recording)
    if recording.is_absolute() or ".." in recording.parts:
        raise ArtifactError(
            f"clip {clip.id}: its recording's name leads out of the tree; rename the recording"
        )
    folder = folder / recording
    folder.mkdir(parents=True, exist_ok=True)
    for time, map_HW in enumerate(maps_THW):
        picture = Image.fromarray(map_HW)
        picture.putpalette(palette)  # turns greyscale into palette mode
        picture.save(folder / f"color_mask_{clip.clip.first + time * clip.clip.step:010d}.png")


def import_png_tree(
    tree: Path,
    directory: Path,
    *,
    dataset: str,
    label_space: LabelSpace,
    context: int,
    dataset_digest: str = "unknown",
    checkpoint_digest: str = "unknown",
) -> PredictionSet:
    """Import a tree of palette PNGs as a prediction set; sample 0 (ground truth) is left out.

    Args:
        tree: The directory with the `batch_*` folders.
        directory: Where the set is made; an interrupted import goes on there.
        dataset: Name of the dataset the recordings are from.
        label_space: What the pixel values mean.
        context: True frames at the beginning of each clip.
        dataset_digest: Digest of the dataset's settings.
        checkpoint_digest: Digest of the weights that made the predictions.

    Raises:
        ArtifactError: the tree has another layout, or its pictures are not label maps of one size.
    """
    found = list(_find_clips(tree, context))
    if not found:
        raise ArtifactError(
            f"{tree}: no batch_*/sample_00001/<recording>/color_mask_<frame>.png below it; give "
            "the directory that holds the batch folders"
        )
    steps = sorted({entry.clip.clip.step for entry in found})
    if len(steps) > 1:
        raise ArtifactError(f"{tree}: clips with different frame steps {steps}; import them apart")
    height, width = _read_map(found[0].pictures[0][0], label_space).shape
    header = PredictionHeader(
        dataset=dataset,
        dataset_digest=dataset_digest,
        label_space=label_space,
        size=(height, width),
        frame_step=steps[0],
        checkpoint_digest=checkpoint_digest,
        sampling={"imported_from": "png tree"},
        seed=None,
    )
    writer = PredictionSetWriter(directory, header, [entry.clip for entry in found])
    for entry in found:
        if not writer.done(entry.clip):
            with writer.open(entry.clip) as add:
                for pictures in zip(*entry.pictures, strict=True):
                    maps = [_read_map(path, label_space, header.size) for path in pictures]
                    add(np.stack(maps))
    writer.close()
    return PredictionSet(directory)


@dataclass(frozen=True)
class _TreeClip:
    clip: PredictedClip
    pictures: list[list[Path]]
    """Per sample, per frame."""


def _find_clips(tree: Path, context: int) -> Iterator[_TreeClip]:
    for batch in sorted(tree.glob("batch_*"), key=_in_order):
        samples = sorted(
            (path for path in batch.glob("sample_*") if (n := path.name[7:]).isdigit() and int(n)),
            key=_in_order,
        )
        pictures = samples[0].rglob("color_mask_*.png") if samples else []
        folders = {path.parent for path in pictures if _PICTURE.fullmatch(path.name)}
        for recording in sorted(folder.relative_to(samples[0]).as_posix() for folder in folders):
            yield _tree_clip(recording, [sample / recording for sample in samples], context)


def _tree_clip(recording: str, samples: list[Path], context: int) -> _TreeClip:
    """The clip whose samples lie in these folders."""
    numbered = [_numbered_pictures(sample) for sample in samples]
    frames = list(numbered[0])
    first, step = frames[0], frames[1] - frames[0] if len(frames) > 1 else 1
    expected = list(range(first, first + step * len(frames), step))
    for sample, pictures in zip(samples, numbered, strict=True):
        if list(pictures) != expected:
            raise ArtifactError(
                f"{sample}: expected {len(expected)} pictures, of the frames {first} to "
                f"{expected[-1]} in steps of {step} as the first sample has or begins, found "
                f"{len(pictures)}, not all of these; one batch folder holds one clip per recording"
            )
    if not 0 <= context < len(frames):
        raise ArtifactError(
            f"{samples[0]}: {len(frames)} frames cannot begin with {context} true ones and go on; "
            "give the number of true frames of each clip as context"
        )
    clip = PredictedClip(
        clip=ClipId(recording, first, step),
        context=context,
        horizon=len(frames) - context,
        samples=len(samples),
    )
    return _TreeClip(clip, [list(pictures.values()) for pictures in numbered])


def _numbered_pictures(folder: Path) -> dict[int, Path]:
    """Frame number to picture, in order."""
    found: dict[int, Path] = {}
    for path in folder.glob("color_mask_*.png"):
        if match := _PICTURE.fullmatch(path.name):
            other = found.setdefault(int(match[1]), path)
            if other != path:
                raise ArtifactError(
                    f"{path}: frame {int(match[1])} is there twice (also {other.name}); remove one"
                )
    return dict(sorted(found.items()))


def _in_order(path: Path) -> tuple[object, ...]:
    return natural_key(path.name), path.name


def _read_map(path: Path, space: LabelSpace, size: Size | None = None) -> np.ndarray:
    """One label map (H, W) uint8, of `size` where it is given; what it claims is checked first."""
    width, height = _claimed_size(path)
    if size is not None and (height, width) != size:
        raise ArtifactError(
            f"{path}: expected height and width {size} as in the tree's first picture, found "
            f"{(height, width)}; resize the pictures to one size (nearest neighbour)"
        )
    try:
        return np.asarray(open_labels(path, space))
    except DataError as error:
        raise ArtifactError(str(error)) from error


def _claimed_size(path: Path) -> tuple[int, int]:
    """Width and height in the header of a picture, where its file can hold as many pixels."""
    try:
        with open_regular(path) as file, Image.open(file) as picture:
            width, height = picture.size
            n_bytes = path.stat().st_size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ArtifactError(
            f"{path}: cannot be decoded ({error}); it is truncated or not a label map: make the "
            "tree again"
        ) from error
    if width * height > _MOST_PIXELS_PER_BYTE * n_bytes:
        raise ArtifactError(
            f"{path}: cannot be decoded ({width} x {height} pixels claimed in {n_bytes} bytes); "
            "make the tree again"
        )
    return width, height


def main(arguments: list[str] | None = None) -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m hvp.artifacts.png_tree",
        description="Prediction sets to and from trees of palette PNGs.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write a prediction set as a tree")
    export.add_argument("set", type=Path, help="directory of the prediction set")
    export.add_argument("tree", type=Path, help="directory to make")
    importer = commands.add_parser("import", help="make a prediction set of a tree")
    importer.add_argument("tree", type=Path, help="directory with the batch_* folders")
    importer.add_argument("set", type=Path, help="directory to make the set in")
    importer.add_argument("--dataset", required=True, help="name of the dataset")
    importer.add_argument("--labels", required=True, help="cityscapes, densepose or a class file")
    importer.add_argument("--context", required=True, type=int, help="true frames of each clip")
    options = parser.parse_args(arguments)
    try:
        if options.command == "export":
            export_png_tree(PredictionSet(options.set), options.tree)
        else:
            import_png_tree(
                options.tree,
                options.set,
                dataset=options.dataset,
                label_space=load_label_space(options.labels),
                context=options.context,
            )
    except HVPError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    with orderly_exit():
        main()
