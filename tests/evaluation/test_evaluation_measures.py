"""Results of metrics of sets of frames, and what is said where they cannot be had."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from hvp.clips import ClipId
from hvp.errors import ConfigError
from hvp.evaluation import distances, image_measures, label_measures
from hvp.evaluation.build import build_measures
from hvp.evaluation.curves import BEST, MEAN
from hvp.evaluation.distances import FrameDistance, LabelVideoDistance, VideoDistance
from hvp.evaluation.image_measures import ImageLikeness, PerceptualDistance
from hvp.evaluation.label_measures import LabelAgreement, LabelStatistics
from hvp.evaluation.measure import Setup
from hvp.evaluation.missing import Missing, Unavailable, merge
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.reconstruction import Likelihood
from hvp.evaluation.results import Evaluation, NotComputed, Result, load_results, save_results
from hvp.evaluation.runner import run_measures
from hvp.evaluation.streams import Clip
from hvp.evaluation.systems import COPY_LAST, IMAGE_MODEL, ORACLE, RECONSTRUCTION, STRUCTURE_MODEL
from hvp.labels import CITYSCAPES, LabelSpace
from hvp.metrics.fid import frechet_inception_distance
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.perceptual import LPIPSNetwork
from hvp.metrics.video import frechet_video_distance
from hvp.reporting.summary import summarise
from hvp.structure.svg_lp.module import SVGLP
from hvp.structure.svg_lp.network import SVGLPNetwork
from tests.helpers.commands import composed
from tests.helpers.own_measures import Brightness

CONTEXT, HORIZON, SIZE = 2, 40, 32
PROTOCOL = Protocol("toy", "test", SIZE, SIZE, 1, 2, 2, CONTEXT, HORIZON, 8, 0)
SETUP = Setup(PROTOCOL, CITYSCAPES)
COLOUR = FeatureNetwork(lambda x: x.float().mean((1, 3, 4)), 3, "mean colour (sha256 0)")
LPIPS = LPIPSNetwork(lambda a, b: (a - b).abs().mean((1, 2, 3)), "mean difference (sha256 1)")


def video(seed: int, length: int = CONTEXT + HORIZON) -> np.ndarray:
    frame = np.random.default_rng(seed).integers(0, 200, (1, SIZE, SIZE, 3), dtype=np.uint8)
    return frame + np.arange(length, dtype=np.uint8)[:, None, None, None]


def image_clips() -> list[Clip]:
    """Truth of 34 predicted steps, so two windows a clip; an oracle that ends with it."""
    clips = []
    for seed in (0, 1):
        truth = video(seed, CONTEXT + 34)
        samples = [video(seed) + 3, video(seed) + 9]
        clips.append(Clip(f"clip {seed}", truth, {IMAGE_MODEL: samples, ORACLE: [truth]}))
    return clips


def test_fvd_compares_all_windows_with_all_real_ones_beyond_the_truth_too() -> None:
    measure = VideoDistance(SETUP, COLOUR, points=64)
    (result,) = run_measures(image_clips(), PROTOCOL, [measure])
    assert (result.protocol.metric_window, result.protocol.feature_network) == (
        16, "mean colour (sha256 0)",
    )  # fmt: skip
    windows = [slice(CONTEXT + start, CONTEXT + start + 16) for start in (0, 16)]
    real = torch.from_numpy(np.stack([video(s)[w] for s in (0, 1) for w in windows]))
    real = real.permute(0, 1, 4, 2, 3)
    model = result.find_series(IMAGE_MODEL, "sliding_fvd")
    assert model is not None
    assert (model.first.tolist(), model.last.tolist()) == ([1, 17], [16, 32])
    assert (model.windows.tolist(), model.real_windows) == ([4, 4], 4)
    for point, window in enumerate(windows):
        made = np.stack([video(s)[window] + shift for s in (0, 1) for shift in (3, 9)])
        expected = frechet_video_distance(
            real, torch.from_numpy(made).permute(0, 1, 4, 2, 3), COLOUR
        )
        assert model.values[point] == pytest.approx(float(expected), rel=1e-9)
    whole = result.find_series(IMAGE_MODEL, "fvd")
    assert whole is not None
    assert (whole.first.tolist(), whole.last.tolist(), whole.windows.tolist()) == ([1], [32], [8])
    oracle = result.find_series(ORACLE, "fvd")
    assert oracle is not None
    assert oracle.values[0] == pytest.approx(0.0, abs=1e-6)
    assert result.find_series(COPY_LAST, "fvd") is not None


def test_fid_is_of_all_predicted_frames_and_all_real_ones() -> None:
    frame_colour = FeatureNetwork(lambda x: x.double().mean((2, 3)), 3, "colour (sha256 2)")
    (result,) = run_measures(image_clips(), PROTOCOL, [FrameDistance(SETUP, frame_colour)])
    assert result.protocol.feature_network == "colour (sha256 2)"
    model, oracle = (result.find_series(s, "fid") for s in (IMAGE_MODEL, ORACLE))
    assert model is not None
    assert oracle is not None
    assert (model.first[0], model.last[0], model.windows[0]) == (1, HORIZON, 2 * 2 * HORIZON)
    assert (oracle.last[0], oracle.windows[0], oracle.real_windows) == (34, 2 * 34, 2 * 34)
    real = np.concatenate([video(s)[CONTEXT : CONTEXT + 34] for s in (0, 1)])
    made = np.concatenate([video(s)[CONTEXT:] + x for s in (0, 1) for x in (3, 9)])
    expected = frechet_inception_distance(
        *(torch.from_numpy(x).permute(0, 3, 1, 2) for x in (real, made)), frame_colour
    )
    assert model.values[0] == pytest.approx(float(expected), rel=1e-9)
    assert oracle.values[0] == pytest.approx(0.0, abs=1e-6)
    row = next(r for r in summarise(Evaluation((result,))) if r.metric.name == "fid")
    assert (row.window, row.steps) == ("all", f"1-{HORIZON}")


def test_fvd_of_labels_is_that_of_their_colours() -> None:
    space = LabelSpace("two", ("a", "b"), ((10, 20, 30), (200, 100, 0)))
    labels = (np.arange(CONTEXT + HORIZON)[:, None, None] % 2 * np.ones((SIZE, SIZE))).astype(
        np.uint8
    )
    clips = [Clip(n, labels, {STRUCTURE_MODEL: [labels, labels]}) for n in "ab"]
    measure = LabelVideoDistance(Setup(PROTOCOL, space), COLOUR, 64)
    (result,) = run_measures(clips, PROTOCOL, [measure])
    exact = result.find_series(STRUCTURE_MODEL, "fvd_labels")
    still = result.find_series(COPY_LAST, "fvd_labels")
    assert exact is not None
    assert still is not None
    assert exact.values[0] == pytest.approx(0.0, abs=1e-6)
    # the mean colour of one frame against that of both
    assert still.values[0] == pytest.approx(95**2 + 40**2 + 15**2, rel=1e-6)


def test_too_few_windows_and_too_short_rollouts_are_said() -> None:
    short = [Clip(c.name, c.truth[:10], c.systems) for c in image_clips()]  # type: ignore[index]
    (missing,) = run_measures(
        [Clip(c.name, c.truth, {IMAGE_MODEL: c.systems[IMAGE_MODEL]}) for c in short],
        PROTOCOL,
        [VideoDistance(SETUP, COLOUR, 64)],
    )
    assert isinstance(missing, Missing)
    (item,) = merge([missing])
    assert item.what == "FVD and sliding FVD"
    assert "at least 2" in item.why
    brief = Setup(replace(PROTOCOL, horizon=9), CITYSCAPES)
    recipe = {"_target_": f"{VideoDistance.__module__}.VideoDistance", "weights": None, "points": 9}
    built, (missing,) = build_measures({"fvd": recipe}, brief, {})
    assert built == []
    assert str(missing.reason) == "It needs 16 predicted frames, and the horizon is 9."
    assert missing.reason.command.endswith("dataset.rules.n_eval=16")


def test_lower_lpips_is_better_in_the_summary_and_best_of_s() -> None:
    measure = PerceptualDistance(SETUP, LPIPS)
    (result,) = run_measures(image_clips(), PROTOCOL, [measure])
    assert result.best_samples == {"lpips": {"clip 0": 0, "clip 1": 0}}
    assert result.protocol.feature_network == "mean difference (sha256 1)"
    row = next(r for r in summarise(Evaluation((result,))) if r.window == "all")
    assert row.model == pytest.approx(2 * 6 / 255, rel=1e-6)
    assert row.copy_last > row.model
    assert row.difference < 0 < row.gain
    assert row.others[ORACLE] == 0.0


def test_series_survive_the_files(tmp_path: Path) -> None:
    measure = VideoDistance(SETUP, COLOUR, points=64)
    (result,) = run_measures(image_clips(), PROTOCOL, [measure])
    json_path, csv_path = save_results(tmp_path, Evaluation((result,)))
    (again,) = load_results(json_path).results
    for old, new in zip(result.series, again.series, strict=True):
        assert (old.system, old.metric, old.real_windows) == (
            new.system, new.metric, new.real_windows,
        )  # fmt: skip
        for name in ("values", "first", "last", "windows"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    rows = [line for line in csv_path.read_text().splitlines() if "sliding_fvd,mean,point" in line]
    assert len(rows) == 2 * 3
    assert all("mean colour (sha256 0)" in row for row in rows)


def test_statistics_and_diversity_of_labels_stand_beside_the_agreement() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (CONTEXT + 20, SIZE, SIZE), dtype=np.uint8)
    samples = rng.integers(0, 2, (2, CONTEXT + HORIZON, SIZE, SIZE), dtype=np.uint8)
    clips = [Clip(name, truth, {STRUCTURE_MODEL: list(samples)}) for name in "ab"]
    wanted = [LabelAgreement(SETUP), LabelStatistics(SETUP, 64)]
    agreement, statistics = run_measures(clips, PROTOCOL, wanted)
    spread = agreement.curve(STRUCTURE_MODEL, "diversity", MEAN)
    assert spread is not None
    assert spread.clips.tolist() == [2] * 20  # and no further
    drift = statistics.find_series(STRUCTURE_MODEL, "class_drift")
    assert drift is not None
    assert drift.last.tolist() == [16, 32, 40]  # beyond the truth
    np.testing.assert_allclose(drift.values, 1 / 3, atol=0.02)
    assert drift.real_windows == 2 * 20


def test_reconstruction_and_likelihood_follow_the_ground_truth() -> None:
    torch.manual_seed(0)
    network = SVGLPNetwork(3, (64, 64), CONTEXT, 2, 3, 2, 4)
    module = SVGLP(network, 1e-3, (0.9, 0.999), 1e-4, "frozen", "frozen")
    protocol = Protocol("toy", "test", 64, 64, 1, 1, 1, CONTEXT, 10, 8, 0)
    truth = np.random.default_rng(0).integers(0, 3, (8, 64, 64), dtype=np.uint8)
    setup = Setup(protocol, CITYSCAPES, load_model=lambda: module)
    likelihood = Likelihood(setup, seed=3)
    identity = ClipId("a", 0, 1)
    frames = np.stack(list(likelihood.baselines(identity, truth)[RECONSTRUCTION]))
    assert frames.shape == truth.shape
    np.testing.assert_array_equal(frames[:CONTEXT], truth[:CONTEXT])
    again = np.stack(list(likelihood.baselines(identity, truth)[RECONSTRUCTION]))
    np.testing.assert_array_equal(frames, again)
    nll, kl = likelihood.result().curves
    assert (nll.metric, kl.metric) == ("nll", "kl")
    assert nll.clips.tolist() == [2] * 6
    np.testing.assert_allclose(nll.values, np.log(3), atol=0.1)  # untrained: uniform
    clip = Clip("a", truth, {STRUCTURE_MODEL: [truth], RECONSTRUCTION: [iter(frames)]})
    assert isinstance(run_measures([clip], protocol, [LabelAgreement(setup)])[0], Result)


def test_no_metric_is_made_again_for_the_next_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    # Metrics that are thrown away pile up until the garbage collector comes; each is as long as the
    # horizon, or holds a covariance for every point.
    made: list[str] = []
    for module in (distances, image_measures, label_measures):
        for name in ("HorizonIoU", "LabelDrift", "HorizonImageQuality", "HorizonLPIPS",
                     "SlidingFVD", "FID"):  # fmt: skip
            kind = getattr(module, name, None)
            if kind is not None:
                monkeypatch.setattr(
                    module, name,
                    lambda *args, kind=kind, **kw: made.append(kind.__name__) or kind(*args, **kw),
                )  # fmt: skip
    colour = FeatureNetwork(lambda x: x.double().mean((2, 3)), 3, "colour (sha256 2)")
    labels = np.zeros((CONTEXT + HORIZON, SIZE, SIZE), np.uint8)
    label_clips = [Clip(name, labels, {STRUCTURE_MODEL: [labels] * 2}) for name in "ab"]
    of_labels = [LabelAgreement(SETUP), LabelStatistics(SETUP, 64)]
    of_images = [
        ImageLikeness(SETUP),
        PerceptualDistance(SETUP, LPIPS),
        VideoDistance(SETUP, COLOUR, 64),
        FrameDistance(SETUP, colour),
    ]
    run_measures(label_clips, PROTOCOL, of_labels)
    run_measures(image_clips(), PROTOCOL, of_images)
    # One per system (of RGB there is an oracle), and one of the truth where sets are compared.
    assert Counter(made) == {
        "HorizonIoU": 2, "LabelDrift": 3, "HorizonImageQuality": 3, "HorizonLPIPS": 3,
        "SlidingFVD": 4, "FID": 4,
    }  # fmt: skip


def recipes(*overrides: str) -> dict[str, Any]:
    """`evaluate.measures` of the config, as plain values."""
    return OmegaConf.to_container(composed(*overrides).evaluate.measures, resolve=True)


def test_missing_weights_are_said_with_the_command_that_gets_them(tmp_path: Path) -> None:
    given = recipes(f"evaluate.lpips={tmp_path / 'no.pth'}")
    setup = Setup(PROTOCOL, CITYSCAPES, command="python run.py x=1")
    built, missing = build_measures(given, setup, {})
    assert [type(measure).__name__ for measure in built] == [
        "LabelAgreement", "LabelStatistics", "ImageLikeness",
    ]  # fmt: skip
    model, fvd, lpips = merge(missing)  # and no FID, which is optional
    assert model.what == "Posterior reconstruction, NLL and KL"
    assert fvd.what == "FVD of labels, sliding FVD of labels, FVD and sliding FVD"
    assert "evaluate.i3d names no weights" in fvd.why
    assert fvd.command.startswith("curl -L -o i3d_torchscript.pt")
    assert fvd.command.endswith("python run.py x=1 evaluate.i3d=torchscript:i3d_torchscript.pt")
    assert lpips.what == "LPIPS"
    assert "no.pth: no such file" in lpips.why
    assert lpips.command == "python run.py x=1 evaluate.lpips=download"


def test_weights_of_an_optional_metric_that_are_named_and_not_there_are_said() -> None:
    _, missing = build_measures(recipes("evaluate.inception=nowhere.pth"), SETUP, {})
    assert [item.names for item in missing if "nowhere.pth" in item.reason.why] == [("FID",)]


def test_a_measure_is_switched_off_by_null() -> None:
    built, _ = build_measures(recipes("evaluate.measures.drift=null"), SETUP, {})
    assert [type(measure).__name__ for measure in built] == ["LabelAgreement", "ImageLikeness"]


def test_what_there_are_no_predictions_of_is_said_once_for_all_its_metrics() -> None:
    no_videos = {"frames": Unavailable("No videos.", "make them")}
    built, missing = build_measures(recipes(), SETUP, no_videos)
    assert {measure.channel() for measure in built} == {"labels"}
    assert NotComputed("PSNR, SSIM, LPIPS, FVD and sliding FVD", "No videos.", "make them") in (
        merge(missing)
    )


class NoMetrics(LabelAgreement):
    metrics = ()


class Mixed(LabelAgreement):
    metrics = (*LabelAgreement.metrics, *ImageLikeness.metrics)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({}, r"evaluate\.measures\.mine={}: has no _target_; expected the import path"),
        ({"_target_": "nowhere.Mine"}, r"mine\._target_=nowhere\.Mine: .*expected the import path"),
        ({"_target_": "pathlib.Path"}, r"mine\._target_=pathlib\.Path: is no measure"),
        ({"_target_": f"{__name__}.NoMetrics"}, "describes no metrics"),
        ({"_target_": f"{__name__}.Mixed"}, "metrics of two channels"),
        (
            {"_target_": "hvp.evaluation.image_measures.ImageLikeness", "point": 3},
            r"evaluate\.measures\.mine: got an unexpected keyword argument 'point'",
        ),
    ],
)
def test_what_is_no_measure_is_named_by_its_key(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_measures({"mine": recipe}, SETUP, {})


def test_two_measures_that_give_the_same_metric_are_refused() -> None:
    like = {"_target_": "hvp.evaluation.image_measures.ImageLikeness"}
    with pytest.raises(ConfigError, match="one and two both give the metric psnr"):
        build_measures({"one": like, "off": None, "two": like}, SETUP, {})


class NeutralBrightness(Brightness):
    metrics = (replace(Brightness.metrics[0], higher_is_better=None),)


def test_a_score_of_frames_becomes_curves_and_ranks_samples_by_its_direction() -> None:
    (result,) = run_measures(image_clips(), PROTOCOL, [Brightness(SETUP, gain=2)])
    curves = {(c.system, c.aggregate): c for c in result.curves}
    assert set(curves) == {
        (system, aggregate)
        for system in (IMAGE_MODEL, ORACLE, COPY_LAST)
        for aggregate in (MEAN, BEST)
    }
    np.testing.assert_allclose(curves[IMAGE_MODEL, MEAN].values, [2 * 6] * 34, rtol=1e-5)
    np.testing.assert_allclose(curves[IMAGE_MODEL, BEST].values, [2 * 3] * 34, rtol=1e-5)
    assert result.best_samples == {"brightness": {"clip 0": 0, "clip 1": 0}}
    (neutral,) = run_measures(image_clips(), PROTOCOL, [NeutralBrightness(SETUP, gain=2)])
    assert {curve.aggregate for curve in neutral.curves} == {MEAN}
    assert neutral.best_samples == {}


def test_a_network_that_two_measures_use_is_loaded_once() -> None:
    loaded: list[int] = []

    def load() -> int:
        loaded.append(1)
        return 7

    assert [SETUP.shared("network", load) for _ in range(2)] == [7, 7]
    assert loaded == [1]


def test_not_computed_items_are_kept(tmp_path: Path) -> None:
    missing = NotComputed("FVD", "Too short.", "longer clips")
    json_path, _ = save_results(tmp_path, Evaluation((), (missing,)))
    assert load_results(json_path).not_computed == (missing,)
