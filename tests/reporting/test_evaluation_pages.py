"""The pages in a real browser (headless Chromium), and the comparison of several evaluations."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hvp.errors import ConfigError
from hvp.evaluation.results import Evaluation
from hvp.evaluation.systems import STRUCTURE_MODEL
from hvp.reporting.compare import Entry, write_comparison
from hvp.reporting.report import write_report
from tests.helpers.small_report import Reader, make_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")

# Runs in the page: waits for its videos, then leaves what it found where `--dump-dom` shows it.
_PROBE = """<script>
addEventListener("load", async () => {
  const root = document.documentElement;
  const videos = [...document.querySelectorAll("video")];
  const decoded = video => new Promise(done => {
    const finish = () => done(video.videoWidth > 0 && video.readyState >= 2);
    if (video.readyState >= 2) finish();
    video.onloadeddata = finish; video.onerror = () => done(false);
  });
  const all = await Promise.all(videos.map(decoded));
  const width = root.scrollWidth - root.clientWidth;
  document.title = `decoded ${all.filter(Boolean).length} of ${all.length}, overhang ${width}`;
});
</script></body>"""


def browse(path: Path, width: int) -> tuple[str, str]:
    """The page's title after its scripts ran, and what the browser's console said."""
    page = path.read_text(encoding="utf-8").replace("</body>", _PROBE)
    probed = path.with_name("probed.html")
    probed.write_text(page, encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={path.parent / 'profile'}", f"--window-size={width},900",
         "--virtual-time-budget=5000", "--dump-dom", probed.as_uri()],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stderr[-2000:]
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return title[1], console


@needs_chromium
def test_report_in_a_browser_plays_its_videos_without_errors_on_a_phone(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, make_report(tmp_path / "videos")[0])
    title, console = browse(path, width=500)
    assert title == "decoded 1 of 1, overhang 0"
    assert console == ""


def other_evaluation() -> Evaluation:
    """As the report's, but of a model that is worse and was given another horizon to train on."""
    evaluation = make_report()[0].evaluation
    structure = evaluation.results[0]
    curves = tuple(
        replace(c, values=c.values / 2) if c.system == STRUCTURE_MODEL else c
        for c in structure.curves
    )
    protocol = replace(structure.protocol, trained_horizon=4)
    return Evaluation((replace(structure, curves=curves, protocol=protocol),))


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    path = tmp_path / "compare.html"
    entries = [Entry("a:v0", make_report()[0].evaluation), Entry("b:v1", other_evaluation())]
    write_comparison(path, "Two & more", entries, "python run.py evaluate.compare=[a:v0,b:v1]")
    return path


def test_comparison_marks_the_better_model_and_differing_protocols(comparison: Path) -> None:
    page = comparison.read_text()
    reader = Reader(page)
    assert reader.open == []
    text = " ".join(reader.text.split())
    assert "Two & more" in text
    result = make_report()[0].evaluation.results[0]
    window = next(w for w in result.windows() if w.name == "all")
    mine = result.curve(STRUCTURE_MODEL, "miou", "mean")
    assert mine is not None
    value = mine.average(window)
    assert f"all ({window.steps}){value:.3f}{value / 2:.3f}" in text
    assert re.search(rf'class="number better"[^>]*>{value:.3f}', page)
    assert "trained horizon (differs)" in text
    assert "context (differs)" not in text
    assert "PSNR" in text  # that only one of them has
    assert "a:v0: 1 clip of toy/test" in text  # beside the numbers, and on hover
    known = [number for number in reader.numbers if number.strip()]
    assert all("1 clip of toy/test at 32x48" in number for number in known)
    assert len(known) > len(reader.numbers) / 2  # the rest are cells without a number


@needs_chromium
def test_comparison_in_a_browser_fits_a_phone(comparison: Path) -> None:
    title, console = browse(comparison, width=500)
    assert title == "decoded 0 of 0, overhang 0"
    assert console == ""


def test_comparing_less_than_two_evaluations_is_refused(tmp_path: Path) -> None:
    entry = Entry("a", make_report()[0].evaluation)
    for entries in ([entry], [entry, entry]):
        with pytest.raises(ConfigError, match=r"evaluate\.compare=.*expected 2 to 8 different"):
            write_comparison(tmp_path / "c.html", "x", entries, "")
    assert list(tmp_path.iterdir()) == []
