"""run.log: what the terminal showed, below versions and settings."""

import errno
import io
import logging
import re
import secrets
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress
from tqdm import tqdm

from hvp.errors import DataError
from hvp.launch.directory import at_work
from hvp.launch.log_file import LogFile
from hvp.log import console, say
from tests.launch.test_directory import config_of


class Terminal(io.StringIO):
    """Terminal whose text goes to a log."""

    def __init__(self, log: LogFile) -> None:
        super().__init__()
        self.log = log

    def write(self, text: str) -> int:
        self.log.write(text)
        return super().write(text)

    def isatty(self) -> bool:
        return True


def log_of(folder: Path) -> str:
    return (folder / "run.log").read_text()


def test_progress_bars_are_kept_in_their_last_state(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    terminal = Terminal(log)
    progress = Progress(console=Console(file=terminal, force_terminal=True, width=60))
    with progress:
        bars = [progress.add_task(f"bar {n}", total=3) for n in range(3)]
        for step in range(3):
            for bar in bars:
                progress.advance(bar)
                progress.refresh()
            progress.console.print(f"step {step}")
    for _ in tqdm(range(4), file=terminal, ncols=60, mininterval=0):
        pass
    print("end", file=terminal)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split(" ━")[0] for line in lines[:6]] == [
        "step 0", "step 1", "step 2", "bar 0", "bar 1", "bar 2"]  # fmt: skip
    assert all("100%" in line for line in lines[3:7])
    assert lines[7:] == ["end"]
    assert len(terminal.getvalue().splitlines()) > len(lines)


@given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Zl", "Zp", "Cs"))), max_size=8))
def test_plain_lines_are_kept_as_they_are(tmp_path_factory: pytest.TempPathFactory, lines) -> None:
    path = tmp_path_factory.mktemp("lines") / "log"
    log = LogFile(path)
    for line in lines:
        log.write(f"{line}\n")
    log.close()
    assert path.read_text() == "".join(f"{line}\n" for line in lines)


def test_two_processes_append_in_turns(tmp_path: Path) -> None:
    parent, child = LogFile(tmp_path / "log"), LogFile(tmp_path / "log")
    parent.write("parent\n")
    child.write("child 1%\rchild 100%\n")
    parent.write("\x1b[1A\x1b[2Kparent again\n")  # never goes up into what the child wrote
    assert (tmp_path / "log").read_text() == "parent\nchild 100%\nparent again\n"


def test_everything_that_is_shown_is_in_the_log_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = secrets.token_hex(20)
    monkeypatch.setenv("WANDB_API_KEY", secret)
    monkeypatch.setattr(sys, "argv", ["run.py", "stage=prepare", "seed=\x1b7"])
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("test").addHandler(handler)
    for start in range(2):
        with at_work(config_of(tmp_path)):
            say(f"said {start}", style="red")
            print("printed", secret)
            print(f"warned {start}", file=sys.stderr)
            logging.getLogger("test").error("logged")
            console.print("[bold]shown[/bold]")
    shown = capsys.readouterr()
    log = log_of(tmp_path)
    for expected in ("said 0", "said 1", "warned 0", "warned 1", "shown\n", "logged\n"):
        assert expected in log
        assert expected in shown.out + shown.err
    assert secret not in log
    assert "printed ***\n" in log
    assert "\x1b" not in log
    for fact in (r"torch +2", r"python +3", r"host +\S", rf"output_dir: {tmp_path}", "stage=prep"):
        assert len(re.findall(fact, log)) == 2
    assert not isinstance(sys.stdout, type(handler))
    assert handler.stream is sys.stderr
    logging.getLogger("test").removeHandler(handler)


@pytest.mark.parametrize(
    ("error", "last_line"),
    [
        (DataError("file.png: 3 rows,\nexpected 4"), r"error: file.png: 3 rows,\nexpected 4"),
        (SystemExit("error: stopped"), "error: stopped"),
        (KeyError("bug\x1b[2J"), r"KeyError: 'bug\x1b[2J'"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "the same command goes on"),
    ],
)
def test_an_error_is_the_end_of_the_log(
    tmp_path: Path, error: BaseException, last_line: str
) -> None:
    with pytest.raises(BaseException), at_work(config_of(tmp_path)):  # noqa: B017, PT011
        raise error
    assert log_of(tmp_path).splitlines()[-1].endswith(last_line)
    assert ("Traceback" in log_of(tmp_path)) == isinstance(error, KeyError)


def test_a_log_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(log: LogFile, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with at_work(config_of(tmp_path)):
        monkeypatch.setattr(LogFile, "_append", full)
        say("first")
        say("second")
    shown = capsys.readouterr().out
    assert "first\nwarning: nothing more goes to the run's log" in shown
    assert "second" in shown
