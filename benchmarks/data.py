"""Clips per second from the prepared store against a PNG-per-frame dataset: one process each.

    python benchmarks/data.py

For every dataset a small raw tree in its official layout and picture size is made of drawn
frames. Ours: the data module that `python run.py experiment=...` makes, on what it prepared. The
baseline is the usual dataset of research code: it opens, decodes, crops and resizes each frame of
a clip with Pillow, by the same rule, in the same order, whenever the clip is asked for. Checks
first that both give the same pixels, then times both in turns, so that a busy machine slows both
alike, and reports the median turn. All files are in the page cache: a disk would slow the
baseline, which reads ten to a hundred times the bytes, further.

`augmented` is ours with flips, resize and crop on the same core, which the baseline leaves out.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

# Before NumPy is imported: both sides are measured on one thread.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hvp.clips import Channel, ClipBatch, ClipId
from hvp.config.build import build_datamodule
from hvp.config.resolvers import register_resolvers
from hvp.config.settings import dataset_settings
from hvp.data.datamodule import ClipDataModule
from hvp.data.images import BILINEAR, NEAREST
from hvp.data.readers.file_reader import FileReader
from hvp.data.videos import source_file
from hvp.files import write_json
from hvp.labels import Size
from hvp.worlds.driving import world as driving

CHANNELS: dict[str, tuple[Channel, ...]] = {
    "image": ("labels", "frames"),
    "structure": ("labels",),
}
"""What each stage trains on."""
CONF = Path(__file__).resolve().parents[1] / "conf"


@dataclass(frozen=True)
class Raw:
    """How the raw tree of a dataset is made."""

    experiment: str
    """The published settings that read it."""
    drawn: Size
    """Height and width at which the driving world draws the frames ..."""
    size: Size
    """... and of the files."""
    write: Callable[[Path, list[tuple[Image.Image, Image.Image]]], None]
    """Writes the tree from label maps and RGB."""


def write_kitti(root: Path, pictures: list[tuple[Image.Image, Image.Image]]) -> None:
    """Drives of KITTI raw with label maps beside the frames."""
    for drive, n_frames in (("0001", 80), ("0005", 20), ("0104", 20)):
        date = "2011_09_26"
        folder = root / date / f"{date}_drive_{drive}_sync" / "image_03" / "data"
        paths = [
            (folder / f"color_mask_{i:010d}.png", folder / f"{i:010d}.png") for i in range(n_frames)
        ]
        save(pictures, paths)


def write_cityscapes(root: Path, pictures: list[tuple[Image.Image, Image.Image]]) -> None:
    """Sequences of 30 frames; label maps at a quarter of the size, as published ones are."""
    height, width = pictures[0][1].height // 4, pictures[0][1].width // 4
    small = [(labels.resize((width, height), NEAREST), rgb) for labels, rgb in pictures]
    for split, city, n_sequences in (("train", "aachen", 2), ("val", "munster", 1)):
        folder = root / "leftImg8bit_sequence" / split / city
        frames = [f"{sequence:06d}_{i:06d}" for sequence in range(n_sequences) for i in range(30)]
        names = [f"{city}_{frame}_leftImg8bit.png" for frame in frames]
        save(small, [(folder / f"color_mask_{name}", folder / name) for name in names])


def write_densepose(root: Path, pictures: list[tuple[Image.Image, Image.Image]]) -> None:
    """Clips of IUV pictures and RGB; U and V are filled with the picture's red and green."""
    iuv = [(Image.merge("RGB", (*rgb.split()[:2], labels)), rgb) for labels, rgb in pictures]
    for clip in ("V00001/C00001", "V00002/C00001"):
        names = [root / clip / f"frame{i:06d}" for i in range(120)]
        paths = [(n.with_name(f"{n.name}_IUV.png"), n.with_suffix(".png")) for n in names]
        save(iuv, paths)
    write_json(
        root / "split.json", {"train": {"V00001": ["C00001"]}, "test": {"V00002": ["C00001"]}}
    )


RAW = {
    "kitti": Raw("kitti64", (375, 1242), (375, 1242), write_kitti),
    "cityscapes": Raw("cityscapes", (512, 1024), (1024, 2048), write_cityscapes),
    "densepose": Raw("pose64", (256, 256), (256, 256), write_densepose),
}


def main() -> None:
    """Make the trees, prepare, check, time, print."""
    options = parse_options()
    torch.set_num_threads(1)
    register_resolvers()
    prepared: dict[str, Any] = {}
    loaded: list[dict[str, Any]] = []
    for name in options.datasets:
        with tempfile.TemporaryDirectory() as folder:
            draw_tree(RAW[name], Path(folder) / "raw", options.pictures)
            for stage, channels in CHANNELS.items():
                data = datamodule(RAW[name], Path(folder), stage, channels, options.batch_size)
                start = time.perf_counter()
                data.prepare_data()
                if stage == "image":
                    n_frames = sum(r.n_frames for r in data.reader.recordings())
                    prepared[name] = n_frames / (time.perf_counter() - start)
                loaded.append({"dataset": name, "stage": stage, **measure(data, options)})
    show(prepared, loaded)
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key != "json"}
        write_json(options.json, {"settings": settings, "prepare": prepared, "load": loaded})


def parse_options() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", choices=list(RAW), default=list(RAW))
    parser.add_argument("--batch-size", type=int, default=4, help="clips per batch")
    parser.add_argument("--pictures", type=int, default=8, help="drawn frames, shown in turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--seconds", type=float, default=0.5, help="least length of a turn")
    parser.add_argument("--json", type=Path, help="also write settings and results here")
    return parser.parse_args()


def draw_tree(raw: Raw, root: Path, n_pictures: int) -> None:
    """Draw the pictures of a dataset and write its raw tree."""
    height, width = raw.size
    noise = np.random.default_rng(0)  # a sensor's, which keeps PNG files as large as real ones
    pictures = []
    for labels, rgb, _ in islice(driving.stream(0, size=raw.drawn, frame_rate=10.0), n_pictures):
        large = np.asarray(Image.fromarray(rgb).resize((width, height), BILINEAR), np.int16)
        grain = noise.integers(-2, 3, large.shape, np.int16)
        frame = Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8))
        pictures.append((Image.fromarray(labels).resize((width, height), NEAREST), frame))
    raw.write(root, pictures)


def save(pictures: list[tuple[Image.Image, Image.Image]], paths: list[tuple[Path, Path]]) -> None:
    """Write the pictures in turn under `paths`; each is encoded once and then copied."""
    paths[0][0].parent.mkdir(parents=True)
    for index, (label_path, rgb_path) in enumerate(paths):
        first = index % len(pictures)
        for picture, path, source in zip(
            pictures[first], (label_path, rgb_path), paths[first], strict=True
        ):
            if index == first:
                picture.save(path)
            else:
                shutil.copyfile(source, path)


def datamodule(
    raw: Raw, folder: Path, stage: str, channels: Any, batch_size: int
) -> ClipDataModule:
    """The data module of the published settings, on the tree in `folder`."""
    overrides = [
        f"experiment={raw.experiment}",
        f"data_root={folder / 'raw'}",
        f"data_dir={folder / 'data'}",
        f"model.{stage}.batch_size={batch_size}",
        "dataset.num_workers=0",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides)
    size = config.model[stage].batch_size, config.model[stage].eval_batch_size
    return build_datamodule(dataset_settings(config), channels, stage, *size)


class PNGPerFrame(Dataset[dict[str, Tensor]]):
    """The baseline: each frame of a clip is opened, decoded, cropped and resized on demand."""

    def __init__(self, data: ClipDataModule, clips: list[ClipId], length: int) -> None:
        assert isinstance(data.reader, FileReader)
        self.reader, self.size, self.channels = data.reader, data.train_size, data.channels
        self.clips, self.length = clips, length

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        clip = self.clips[index]
        source = self.reader.sources[clip.recording]
        shown = range(clip.first, clip.first + self.length * clip.step, clip.step)
        maps = [self.reader.decode_labels(source.labels[i]) for i in shown]
        labels = [np.asarray(self.reader.transform(m, self.size, NEAREST)) for m in maps]
        item = {"labels": torch.from_numpy(np.stack(labels))}
        if "frames" in self.channels:
            pictures = [Image.open(source_file(source.frames[i])).convert("RGB") for i in shown]
            frames = [np.asarray(self.reader.transform(p, self.size, BILINEAR)) for p in pictures]
            item["frames"] = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
        return item


def measure(data: ClipDataModule, options: argparse.Namespace) -> dict[str, Any]:
    """Clips per second of ours and of the baseline, and what a clip is."""
    loader = data.train_dataloader()
    first = next(iter(loader))
    # As many clips in the training's order as the baseline can show within its turns.
    clips = [clip for batch in loader for clip in batch.ids]
    baseline = DataLoader(PNGPerFrame(data, clips, data.train_length), options.batch_size)
    check(first, next(iter(baseline)))

    def augmented() -> Iterator[Any]:
        for batch in endless(loader):
            yield data.augmentation(batch, 0)

    sides = {"naive": endless(baseline), "ours": endless(loader), "augmented": augmented()}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(options.repeats):
        for side, batches in sides.items():
            rates[side].append(rate(batches, options.batch_size, options.seconds))
    medians = {side: statistics.median(values) for side, values in rates.items()}
    height, width = data.train_size
    clip = f"{data.train_length}x{height}x{width}"
    return {"clip": clip, **medians, "ratio": medians["ours"] / medians["naive"]}


def endless(loader: DataLoader) -> Iterator[Any]:
    """The loader's batches, epoch after epoch."""
    while True:
        yield from loader


def rate(batches: Iterator[Any], batch_size: int, seconds: float) -> float:
    """Clips per second over at least `seconds`."""
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds or not count:
        next(batches)
        count += batch_size
    return count / passed


def check(ours: ClipBatch, baseline: dict[str, Tensor]) -> None:
    """Exit unless both show the same pixels."""
    same = torch.equal(ours.labels_BTHW, baseline["labels"])
    if ours.frames_BT3HW is not None:
        same = same and torch.equal(ours.frames_BT3HW, baseline["frames"])
    if not same:
        raise SystemExit(f"{ours.ids[0]}: the two loaders do not give the same clip")


def show(prepared: dict[str, float], loaded: list[dict[str, Any]]) -> None:
    """Print both tables."""
    print(f"\n{'prepare labels + RGB':24}{'frames/s':>12}")
    for name, frames_per_second in prepared.items():
        print(f"{name:24}{frames_per_second:12.1f}")
    print(
        f"\n{'load, clips/s':24}{'clip':>14}{'naive':>10}{'ours':>10}{'ratio':>8}{'augmented':>12}"
    )
    for row in loaded:
        what = f"{row['dataset']}, {'labels + RGB' if row['stage'] == 'image' else 'labels'}"
        print(
            f"{what:24}{row['clip']:>14}{row['naive']:10.2f}{row['ours']:10.0f}"
            f"{row['ratio']:7.0f}x{row['augmented']:12.0f}"
        )


if __name__ == "__main__":
    main()
