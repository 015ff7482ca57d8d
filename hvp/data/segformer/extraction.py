"""Label maps for sequences that have none, made from their RGB frames when they are prepared.

    <folder>/<dataset>-labels-<digest>/<the dataset's own label tree>
    <folder>/<dataset>-labels-<digest>/extraction.json     what made them

The digest names the model (the files of a local one, else its name and revision) and the raw
folder: another model never meets these maps, a second run goes on where the first stopped. When
complete, such a tree can be given as `labels_root` too. Each map is a PNG of mode P, pixel value =
label id, that remembers which RGB file (name, bytes) it was made from; a replaced frame gets a new
map.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from PIL import Image

from hvp.data.images import open_rgb, save_labels
from hvp.data.segformer.network import KEY, Segmenter, model_digest
from hvp.data.videos import FrameSource, VideoFrame, open_frames, source_file
from hvp.errors import ConfigError
from hvp.files import settings_digest, write_json
from hvp.labels import LabelSpace
from hvp.log import say, track

T = TypeVar("T")

VERSION = 1
"""Raise it when the same model would make other label maps."""

THREADS = 4
"""Decode RGB and encode label maps beside the network (Pillow works without Python's lock)."""

_SOURCE = "Source"


@dataclass(frozen=True)
class LabelExtractor:
    """Makes label maps with a SegFormer; what `dataset.extract_labels` configures."""

    model: str
    """Name on the Hugging Face hub, or a local directory (see `hvp.data.segformer.network`)."""
    folder: str | Path
    """Folder that keeps the trees of label maps."""
    revision: str = "main"
    """Branch, tag or commit of a hub model; means nothing for a directory."""
    batch_size: int = 4
    """Pictures per pass through the network."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(
                f"dataset.extract_labels.batch_size={self.batch_size}: expected at least 1"
            )

    @cached_property
    def digest(self) -> str:
        """Names what decides the label maps of a picture.

        Raises:
            ConfigError: the model is a directory that does not exist.
        """
        model = model_digest(self.model, self.revision)
        return settings_digest({"version": VERSION, "model": model})

    def tree(self, dataset: str, root: Path) -> Path:
        """Root of the label maps made for the raw dataset at `root`."""
        key = settings_digest({"by": self.digest, "root": root.resolve().as_posix()})
        return Path(self.folder) / f"{dataset}-labels-{key[:12]}"

    def extract(
        self, tree: Path, jobs: Sequence[tuple[FrameSource, Path]], space: LabelSpace, dataset: str
    ) -> None:
        """Make what is missing in `tree`, behind a progress bar. Resumable; processes take turns.

        Args:
            tree: what `tree` returned.
            jobs: RGB frames and the label map, below `tree`, to make of each.
            space: classes of the label maps.
            dataset: name for messages.

        Raises:
            ConfigError: the model cannot be had or has other classes.
            DataError: an RGB frame cannot be decoded.
        """
        tree.mkdir(parents=True, exist_ok=True)
        with FileLock(tree / ".lock"):
            todo = [job for job in jobs if not _is_extracted(*job)]
            if not todo:
                return
            for leftover in tree.rglob(".*.tmp.png"):
                leftover.unlink()
            done = len(jobs) - len(todo)
            say(
                f"{dataset}: {len(jobs)} frames have no label map; making "
                f"{f'the {len(todo)} left' if done else 'them'} with {self.model} ({KEY}) in {tree}"
            )
            segment = Segmenter(self.model, self.revision, space)
            made_by = {"dataset": dataset, "model": self.model, "revision": self.revision}
            write_json(tree / "extraction.json", {**made_by, "digest": self.digest})
            with ThreadPoolExecutor(THREADS) as pool:
                made = self._extract_frames(todo, segment, space, pool)
                for _ in track(made, f"label maps of {dataset}", len(todo), "frames"):
                    pass

    def _extract_frames(
        self,
        jobs: Sequence[tuple[FrameSource, Path]],
        segment: Segmenter,
        space: LabelSpace,
        pool: ThreadPoolExecutor,
    ) -> Iterator[None]:
        """Make the label maps; yields after each that is written."""
        pictures = _prefetch(pool, _decoders([frame for frame, _ in jobs]), 2 * self.batch_size)

        def writers() -> Iterator[Callable[[], None]]:
            maps = (ids for batch in self._batches(pictures) for ids in segment(batch))
            for (frame, path), labels in zip(jobs, maps, strict=True):
                text = {_SOURCE: _frame_stamp(frame)}
                yield partial(save_labels, path, labels, space, text)

        yield from _prefetch(pool, writers(), 2 * THREADS)

    def _batches(self, pictures: Iterable[Image.Image]) -> Iterator[list[Image.Image]]:
        """Up to `batch_size` neighbouring pictures of one size."""
        batch: list[Image.Image] = []
        for picture in pictures:
            if batch and (len(batch) == self.batch_size or batch[0].size != picture.size):
                yield batch
                batch = []
            batch.append(picture)
        if batch:
            yield batch


def _frame_stamp(frame: FrameSource) -> str:
    path = source_file(frame)
    number = f" frame {frame.index}" if isinstance(frame, VideoFrame) else ""
    return f"{path.name}{number}, {path.stat().st_size} bytes"


def _is_extracted(frame: FrameSource, path: Path) -> bool:
    """Whether the label map lies there (a file under its name is complete) and is of this frame."""
    try:
        with Image.open(path) as image:
            return bool(image.info.get(_SOURCE) == _frame_stamp(frame))
    except OSError:
        return False


def _decoders(frames: Sequence[FrameSource]) -> Iterator[Callable[[], Image.Image]]:
    """What decodes each frame: pictures in any thread, videos in order, here."""
    for is_video, group in groupby(frames, key=lambda frame: isinstance(frame, VideoFrame)):
        if is_video:
            for picture in open_frames(list(group)):
                yield picture.copy
        else:
            for frame in group:
                yield partial(open_rgb, source_file(frame))


def _prefetch(
    pool: ThreadPoolExecutor, calls: Iterable[Callable[[], T]], window: int
) -> Iterator[T]:
    """Results of `calls` in order, up to `window` of them at work or waiting."""
    waiting: deque[Future[T]] = deque()
    for call in calls:
        waiting.append(pool.submit(call))
        if len(waiting) > window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
