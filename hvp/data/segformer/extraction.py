"""Pseudo-labels: label maps predicted from RGB for sequences that have none.

    <folder>/<dataset>-labels-<digest>/<the dataset's own label tree>
    <folder>/<dataset>-labels-<digest>/extraction.json     the model, and SHA-256 of its weights

The digest is of the model (the files of a local one, else its name and commit) and the raw
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
from typing import Any, TypeVar

from PIL import Image

from hvp.data.segformer.network import KEY, Segmenter, local_folder, model_digest
from hvp.data.videos import FrameSource, VideoFrame, open_frames, source_file
from hvp.errors import ConfigError, DataError
from hvp.files import file_lock, read_json, settings_digest, write_json
from hvp.label_pictures import save_labels
from hvp.labels import LabelSpace
from hvp.log import say, track
from hvp.pictures import open_rgb

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
    revision: str | None = None
    """Commit of a hub model (40 hex digits); ignored for a directory."""
    sha256: str | None = None
    """SHA-256 of a hub model's weights file; None = not checked. Ignored for a directory."""
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
            ConfigError: the model is a directory that does not exist, or has no commit.
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
            segment = Segmenter(self.model, self.revision, space, self.sha256)
            self._write_record(tree / "extraction.json", dataset, segment.weights_sha256)
            with ThreadPoolExecutor(THREADS) as pool:
                made = self._extract_frames(todo, segment, space, pool)
                for _ in track(made, f"label maps of {dataset}", len(todo), "frames"):
                    pass

    def _write_record(self, path: Path, dataset: str, weights: str) -> None:
        """Record what makes the label maps beside them.

        Raises:
            ConfigError: those that are there were made with other weights.
        """
        made_by = _read_record(path).get("weights_sha256", weights)
        if made_by != weights:
            raise ConfigError(
                f"{path}: its label maps were made with weights of SHA-256 {made_by}, {self.model} "
                f"({KEY}) has {weights} now; delete {path.parent} to have all made again, or "
                "restore the model"
            )
        local = local_folder(self.model)
        model = self.model if local is None else local.name
        record = {"dataset": dataset, "model": model, "revision": self.revision}
        write_json(path, {**record, "weights_sha256": weights, "digest": self.digest})

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


def _read_record(path: Path) -> dict[str, Any]:
    """Record of an earlier run; empty where it is missing or damaged."""
    try:
        record = read_json(path, DataError, "")
    except DataError:
        return {}
    return record if isinstance(record, dict) else {}


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
