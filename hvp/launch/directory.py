"""Output directory of a run: one process at a time, without leftovers of killed ones, logged.

<output_dir>/run.lock    who is at work there; locked until that process ends, however it ends
<output_dir>/run.log     see hvp/launch/run_log.py
"""

import errno
import fcntl
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from omegaconf import DictConfig, OmegaConf

from hvp.config.resolvers import command_line
from hvp.errors import HVPError
from hvp.files import unfinished
from hvp.launch.run_log import run_log
from hvp.launch.user_errors import as_sentence
from hvp.log import rank, say, world_size

_OTHER_HOST_SECONDS = 120.0  # a network file system frees the locks of a host that died only later
_LOOK_SECONDS = 0.5
_HELD = (errno.EACCES, errno.EAGAIN)


@contextmanager
def at_work(config: DictConfig, launched: bool = False) -> Iterator[None]:
    """Work in the output directory of a config: alone, logged, faults of the machine as sentences.

    The ranks of one job are one: rank zero holds the directory.

    Args:
        config: the run's config.
        launched: whether this is a rank whose launcher (hvp/launch/ranks.py) holds the directory
            and has begun the log.

    Raises:
        HVPError: another process is at work there, or the machine failed.
    """
    folder, places = Path(config.output_dir), _places(config)
    try:
        settings = None if launched else OmegaConf.to_yaml(config, resolve=True)
        held = nullcontext() if launched or rank() != 0 else _held(folder, places[1:])
        with held, run_log(folder, settings, places):
            yield
    except Exception as error:
        sentence = as_sentence(error, places)
        if sentence is None or sentence is error:
            raise
        raise sentence from error


def _places(config: DictConfig) -> list[Path]:
    return [Path(config[key]) for key in ("output_dir", "work_dir", "data_dir")]


@contextmanager
def _held(folder: Path, shared: Sequence[Path]) -> Iterator[None]:
    """Hold the directory, and remove what killed processes left half-written there.

    Not where it holds places that are shared with other runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A record lock, which no process forked from this one (a loader worker) keeps alive. It goes
    # with the first descriptor of the file that this process closes: nothing else here opens it.
    with (folder / "run.lock").open("a+", encoding="utf-8") as file:
        if _lock(file, folder):
            file.truncate(0)
            file.write(json.dumps(_myself()))
            file.flush()
            if not any(place.resolve().is_relative_to(folder.resolve()) for place in shared):
                _remove_leftovers(folder)
        yield


def _lock(file: IO[str], folder: Path) -> bool:
    """Lock the file of a directory; False, with a warning, where the file system has no locks."""
    waiting = False
    began = time.monotonic()
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in _HELD:
                say(
                    f"warning: {folder}: its file system has no locks ({error.strerror}); see to "
                    "it yourself that this command runs only once at a time",
                    style="yellow",
                )
                return False
        holder = _holder(file)
        elsewhere = holder.get("host") != socket.gethostname()
        patient = sys.stdout.isatty() or (
            elsewhere and time.monotonic() - began < _OTHER_HOST_SECONDS
        )
        if not patient:
            raise HVPError(
                f"{folder}: {_shown(holder)} is at work in this output directory; wait for its end "
                "and run the same command again, or give another output_dir"
            )
        if not waiting:
            say(
                f"{folder}: waiting for {_shown(holder)}, which is at work in this output "
                "directory; Ctrl-C stops waiting"
            )
            waiting = True
        time.sleep(_LOOK_SECONDS)


def _myself() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": list(command_line()),
    }


def _holder(file: IO[str]) -> dict[str, Any]:
    """What the holder wrote; nothing where it has not come so far yet."""
    file.seek(0)
    try:
        content = json.loads(file.read(1 << 16))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _shown(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} (since {holder.get('since')})"


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes below the directory.

    What other ranks of this job may be writing is left, and so are output directories within.
    """
    newest = time.time() - (60 if world_size() > 1 else 0)
    within = [path.parent for path in folder.glob("*/**/run.lock")]
    for path in unfinished(folder):
        if path.lstat().st_mtime > newest or any(path.is_relative_to(other) for other in within):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
