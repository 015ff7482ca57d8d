"""Pseudo-labels: label maps predicted from RGB for sequences that have none.

    <folder>/<dataset>-labels-<digest>/<the dataset's own label tree>
    <folder>/<dataset>-labels-<digest>/extraction.json     the model

The digest is of the model (the files of a local one, else its name and revision) and the raw
folder: models never share maps, and an interrupted run resumes. A complete tree can also be given
as `labels_root`. Each map is a palette PNG (mode P, pixel value = label id) that records its RGB
file (name, bytes): a replaced frame gets a new map.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from PIL import Image

from hvp.data.images import open_rgb, save_labels
from hvp.data.segformer.network import KEY, Segmenter, model_digest
from hvp.data.videos import FrameSource, VideoFrame, open_frames, source_file
from hvp.errors import ConfigError
from hvp.files import file_lock, settings_digest, write_json
from hvp.labels import LabelSpace
from hvp.log import say, track

T = TypeVar("T")

VERSION = 1
"""Version of the extraction; raise it when the same model would give other label maps."""

THREADS = 4
"""Threads that decode RGB and encode label maps beside the network (Pillow releases the GIL)."""

_SOURCE = "Source"


@dataclass(frozen=True)
class LabelExtractor:
    """Pseudo-label extraction with a SegFormer; configured by `dataset.extract_labels`."""

    model: str
    """Name on the Hugging Face hub, or a local directory (see `hvp.data.segformer.network`)."""
    folder: str | Path
    """Folder of the label map trees."""
    revision: str = "main"
    """Branch, tag or commit of a hub model; ignored for a directory."""
    batch_size: int = 4
    """Images per forward pass."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(
                f"dataset.extract_labels.batch_size={self.batch_size}: expected at least 1"
            )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of model and extraction version: what determines the label map of an image.

        Raises:
            ConfigError: the model is a directory that does not exist.
        """
        model = model_digest(self.model, self.revision)
        return settings_digest({"version": VERSION, "model": model})

    def tree(self, dataset: str, root: Path) -> Path:
        """Root of the pseudo-labels of the raw dataset at `root`."""
        key = settings_digest({"by": self.digest, "root": root.resolve().as_posix()})
        return Path(self.folder) / f"{dataset}-labels-{key[:12]}"

    def extract(
        self, tree: Path, jobs: Sequence[tuple[FrameSource, Path]], space: LabelSpace, dataset: str
    ) -> None:
        """Predict the missing label maps in `tree`. Resumable; a file lock serialises processes.

        Args:
            tree: root from `tree()`.
            jobs: (RGB frame, path of its label map below `tree`) pairs.
            space: label space of the maps.
            dataset: dataset name for messages.

        Raises:
            ConfigError: the model cannot be loaded or has other classes.
            DataError: an RGB frame cannot be decoded.
        """
        tree.mkdir(parents=True, exist_ok=True)
        with file_lock(tree / ".lock"):
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
        """Predict and write label maps; yields after each one written."""
        images = _prefetch(pool, _decoders([frame for frame, _ in jobs]), 2 * self.batch_size)

        def writers() -> Iterator[Callable[[], None]]:
            maps = (ids for batch in self._batches(images) for ids in segment(batch))
            for (frame, path), labels in zip(jobs, maps, strict=True):
                text = {_SOURCE: _frame_stamp(frame)}
                yield partial(save_labels, path, labels, space, text)

        yield from _prefetch(pool, writers(), 2 * THREADS)

    def _batches(self, images: Iterable[Image.Image]) -> Iterator[list[Image.Image]]:
        """Batches of up to `batch_size` consecutive images of equal size."""
        batch: list[Image.Image] = []
        for image in images:
            if batch and (len(batch) == self.batch_size or batch[0].size != image.size):
                yield batch
                batch = []
            batch.append(image)
        if batch:
            yield batch


def _frame_stamp(frame: FrameSource) -> str:
    path = source_file(frame)
    number = f" frame {frame.index}" if isinstance(frame, VideoFrame) else ""
    return f"{path.name}{number}, {path.stat().st_size} bytes"


def _is_extracted(frame: FrameSource, path: Path) -> bool:
    """Whether the label map exists (its final name means complete) and is of this very frame."""
    try:
        with Image.open(path) as image:
            return bool(image.info.get(_SOURCE) == _frame_stamp(frame))
    except OSError:
        return False


def _decoders(frames: Sequence[FrameSource]) -> Iterator[Callable[[], Image.Image]]:
    """Decode calls, one per frame: image files in any thread, videos in order in this one."""
    for is_video, group in groupby(frames, key=lambda frame: isinstance(frame, VideoFrame)):
        if is_video:
            for image in open_frames(list(group)):
                yield image.copy
        else:
            for frame in group:
                yield partial(open_rgb, source_file(frame))


def _prefetch(
    pool: ThreadPoolExecutor, calls: Iterable[Callable[[], T]], window: int
) -> Iterator[T]:
    """Prefetch queue: results of `calls` in order, up to `window` of them in flight."""
    waiting: deque[Future[T]] = deque()
    for call in calls:
        waiting.append(pool.submit(call))
        if len(waiting) > window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
