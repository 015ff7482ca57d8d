"""Pictures and videos in a raw dataset: what counts as one, and those that no rule takes.

A reader takes files by their names. What it does not take may be noise, or the very data under a
name that no rule knows; so every picture and video below the roots that is not taken is counted,
named and shown as left out (`unread_rows`).
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from hvp.data.readers.base import Skip

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of RGB pictures that readers take, in lower case; label maps are `.png`."""
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
"""Suffixes of videos that readers take, in lower case."""
_OTHER_IMAGES = (
    ".bmp", ".gif", ".heic", ".jp2", ".jpe", ".jfif", ".pbm", ".pgm", ".pnm", ".ppm", ".tif",
    ".tiff", ".tga", ".webp", ".avif", ".exr",
)  # fmt: skip
_OTHER_VIDEOS = (".3gp", ".flv", ".mpeg", ".mpg", ".mts", ".ogv", ".wmv", ".y4m")
_IMAGES = (*IMAGE_SUFFIXES, *_OTHER_IMAGES)
_MEDIA = (*_IMAGES, *VIDEO_SUFFIXES, *_OTHER_VIDEOS)


def is_media(name: str) -> bool:
    """Whether a file name is that of a picture or video, in any case.

    Hidden files are none: macOS leaves `._<name>` beside the files that it copies.
    """
    return not name.startswith(".") and name.lower().endswith(_MEDIA)


def is_image(name: str) -> bool:
    """Whether a file name is that of a picture, in any case."""
    return not name.startswith(".") and name.lower().endswith(_IMAGES)


def media_files(root: Path, enters: Callable[[PurePosixPath], bool]) -> Iterator[Path]:
    """Pictures and videos below `root`, in the order of their names; follows links to folders.

    Args:
        root: folder to walk.
        enters: whether to walk a folder, by its path below `root`.
    """

    def walk(folder: str, below: PurePosixPath, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                inner = below / entry.name
                # A link to a folder above would be walked for ever.
                status = entry.stat() if entry.is_symlink() else None
                seen = above if status is None else above | {(status.st_dev, status.st_ino)}
                if (status is None or len(seen) > len(above)) and enters(inner):
                    yield from walk(entry.path, inner, seen)
            elif is_media(entry.name):
                yield entry.path

    start = root.stat()
    found = walk(str(root), PurePosixPath(), frozenset({(start.st_dev, start.st_ino)}))
    yield from map(Path, found)


def unread_media(
    root: Path, enters: Callable[[PurePosixPath], bool], taken: Collection[Path | None]
) -> dict[Path, PurePosixPath]:
    """Pictures and videos below `root` that are not in `taken`: their paths below `root`."""
    found = (file for file in media_files(root, enters) if file not in taken)
    return {file: PurePosixPath(file.relative_to(root).as_posix()) for file in found}


def unread_rows(unread: Mapping[Path, PurePosixPath]) -> list[Skip]:
    """What is left out because no rule takes it: one row per suffix, `*.jpg` and `*.JPG` apart."""
    by_suffix: dict[str, list[str]] = defaultdict(list)
    for file, below in unread.items():
        by_suffix[file.suffix].append(below.as_posix())
    return [
        Skip(
            f"*{suffix} that no rule takes",
            tuple(names),
            len(names) if is_image(names[0]) else 0,
            unread=True,
        )
        for suffix, names in sorted(by_suffix.items())
    ]


def found_instead(*folders: Path, but: Iterable[Path] = ()) -> str:
    """Pictures and videos that lie directly in `folders`, for an error about what is not there.

    Args:
        folders: folders, which need not exist.
        but: files that are known.
    """
    known = set(but)
    files = {f for folder in folders if folder.is_dir() for f in folder.iterdir()} - known
    names = sorted({file.name for file in files if is_media(file.name) and file.is_file()})
    return f" (found {named(names)})" if names else ""


def named(names: Collection[str], shown: int = 3) -> str:
    """Names in a sentence: the first few, and how many there are."""
    first = ", ".join(list(names)[:shown])
    return first if len(names) <= shown else f"{first}, ... {len(names)} in all"
