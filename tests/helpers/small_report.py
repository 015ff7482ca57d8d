"""Small evaluation report, and an HTML parser of its page."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from hvp.evaluation.image_measures import ImageLikeness
from hvp.evaluation.label_measures import LabelAgreement, LabelStatistics
from hvp.evaluation.measure import Setup
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.results import Evaluation, NotComputed, Result
from hvp.evaluation.runner import run_measures
from hvp.evaluation.streams import Clip
from hvp.evaluation.systems import IMAGE_MODEL, ORACLE, STRUCTURE_MODEL
from hvp.labels import LabelSpace
from hvp.reporting.panels import ClipPanel, Stream, write_clip_videos
from hvp.reporting.report import Ancestor, Report

SPACE = LabelSpace("three", ("road", "car", "tram"), ((40, 90, 160), (200, 60, 60), (9, 9, 9)))
HEIGHT, WIDTH, CONTEXT, TRAINED, HORIZON = 32, 48, 2, 3, 5
PROTOCOL = Protocol(
    "toy", "test", HEIGHT, WIDTH, 1, 1, 3, CONTEXT, HORIZON, TRAINED, 7, ("structure-toy:v1",)
)


def label_maps(seed: int, length: int = CONTEXT + HORIZON) -> np.ndarray:
    """Label maps, half road and half car, with a border that depends on the seed."""
    edges = np.random.default_rng(seed).integers(8, WIDTH - 8, length)
    return (np.arange(WIDTH) < edges[:, None, None]).repeat(HEIGHT, axis=1).astype(np.uint8)


def make_report(folder: Path | None = None) -> tuple[Report, Result]:
    """A report and its first result; the video of its clip lies in `folder`, if one is given."""
    truth, samples = label_maps(0), np.stack([label_maps(seed) for seed in (1, 2, 3)])
    rgb = SPACE.colourise
    labels = Clip("drive <1>", truth, {STRUCTURE_MODEL: list(samples)})
    frames = {IMAGE_MODEL: list(rgb(samples)), ORACLE: [rgb(truth)]}
    setup = Setup(PROTOCOL, SPACE)
    structure, statistics = run_measures(
        [labels], PROTOCOL, [LabelAgreement(setup), LabelStatistics(setup, 8)]
    )
    (images,) = run_measures(
        [Clip("drive <1>", rgb(truth), frames)], PROTOCOL, [ImageLikeness(setup)]
    )
    missing = NotComputed("LPIPS", "Its weights are missing.", "python run.py stage=evaluate a=<b>")
    evaluation = Evaluation((structure, statistics, images), (missing,))
    panel = ClipPanel.arrange(
        "drive <1>",
        Stream(truth, rgb(truth)),
        [Stream(sample, rgb(sample)) for sample in samples],
        best=evaluation.best_sample("drive <1>"),
    )
    shown = (SPACE, CONTEXT, TRAINED, HORIZON, 10.0)
    report = Report(
        title="Toy & test",
        evaluation=evaluation,
        space=SPACE,
        videos=[] if folder is None else write_clip_videos(folder, [panel], *shown),
        command="python run.py stage=evaluate dataset=toy",
        config="seed: 7\nname: <toy>\n",
        lineage=[Ancestor("label predictions", "predictions-toy:v2", "abc123")],
    )
    return report, structure


class Reader(HTMLParser):
    """Collects the page's text, its references and whether every element is closed."""

    void = frozenset({"meta", "link", "br"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self.references: list[str] = []
        self.open: list[str] = []
        self.titles: list[str] = []  # of the open elements
        self.numbers: list[str] = []  # for each cell or figure all that it shows on hover
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [
            str(value)
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "srcset", "poster", "action", "data")
        ]
        if tag not in self.void:
            self.open.append(tag)
            self.titles.append(dict(attrs).get("title") or "")
            kind = str(dict(attrs).get("class"))
            if (tag == "figure" and kind != "panel") or (tag == "td" and "number" in kind):
                self.numbers.append(" ".join(self.titles))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()
            self.titles.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.titles.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
