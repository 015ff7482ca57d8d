"""Log of a run: `<output_dir>/run.log`, what the terminal showed below versions and settings.

Runs of the same command append. Progress bars are kept in their last state only, colours not at
all. What libraries print past Python (FFmpeg, NCCL) is on the terminal alone. Ranks above zero have
logs of their own (hvp/launch/ranks.py, or the output of srun).
"""

import logging
import os
import platform
import shlex
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from hvp.launch.log_file import LogFile
from hvp.launch.user_errors import as_sentence
from hvp.log import rank
from hvp.signals import Stopped
from hvp.text import visible

PARENT_LOG = "HVP_RUN_LOG"
"""Environment variable: log of the pipeline that started this process, which gets it too."""

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("hvp", "torch", "pytorch_lightning", "numpy", "hydra-core")

_logs: list[LogFile] = []  # of the current run


class _Copied:
    """Stream of the terminal whose text goes to the logs of the current run too."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        written = self.stream.write(text)
        for log in tuple(_logs):
            try:
                log.write(text)
            except Exception as error:  # the run goes on without its log
                _logs.remove(log)
                self.stream.write(f"warning: nothing more goes to the run's log: {error}\n")
        return written

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def run_log(folder: Path, settings: str | None, places: Sequence[Path]) -> Iterator[None]:
    """Copy what the terminal shows to the log in an output directory, on rank zero.

    Args:
        folder: the output directory.
        settings: the resolved config as YAML, with which the log begins; None where a launcher has
            begun it.
        places: directories that the run writes to, for the sentence of a full disk.
    """
    if rank() != 0:
        yield
        return
    with ExitStack() as stack:
        for path in (folder / "run.log", *_parents()):
            log = LogFile(path)
            stack.callback(log.close)
            if not _logs and settings is not None:
                log.write(_header(settings))
            _logs.append(log)
        stack.callback(_logs.clear)
        stack.enter_context(_copied_terminal())
        try:
            yield
        except BaseException as error:
            said = _last_words(error, places)
            for log in tuple(_logs):
                with suppress(OSError):
                    log.write(said)
            raise


def _parents() -> list[Path]:
    return [Path(os.environ[PARENT_LOG])] if os.environ.get(PARENT_LOG) else []


@contextmanager
def _copied_terminal() -> Iterator[None]:
    """Have stdout, stderr and the handlers of `logging` that write to them copied."""
    with ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            copied = _Copied(stream)
            setattr(sys, name, copied)
            stack.callback(_restore, name, copied, stream)
            for handler in _handlers():
                if getattr(handler, "stream", None) is stream:
                    handler.setStream(copied)
                    stack.callback(handler.setStream, stream)
        yield


def _restore(name: str, copied: _Copied, stream: TextIO) -> None:
    if getattr(sys, name) is copied:
        setattr(sys, name, stream)


def _handlers() -> list["logging.StreamHandler[Any]"]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [h for logger in loggers for h in getattr(logger, "handlers", [])]
    return [handler for handler in handlers if isinstance(handler, logging.StreamHandler)]


def _header(settings: str) -> str:
    """What the run is: time, command, machine, versions, settings."""
    facts = {
        "began": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": visible(shlex.join([Path(sys.executable).name, *sys.argv])),
        "directory": visible(str(Path.cwd())),
        "host": f"{socket.gethostname()}, process {os.getpid()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "commit": _commit(),
    }
    lines = [f"{name:<18} {value}" for name, value in facts.items() if value is not None]
    return "\n".join(["-" * 80, *lines, "", settings, "-" * 80, ""])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the code, `-dirty` where it was changed since; None outside of a checkout."""
    if not (_ROOT / ".git").exists():
        return None
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _last_words(error: BaseException, places: Sequence[Path]) -> str:
    """What the terminal will show of an error, once this process ends of it."""
    sentence = as_sentence(error, places)
    if sentence is not None:
        return f"error: {sentence}\n"
    if isinstance(error, Stopped):
        return f"{error}\n"
    if isinstance(error, SystemExit):
        return f"{visible(error.code)}\n" if isinstance(error.code, str) else ""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "".join(f"{visible(line)}\n" for line in lines)
