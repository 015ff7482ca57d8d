"""Results of metrics of sets of frames, and what is said where they cannot be had."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hvp.clips import ClipId
from hvp.errors import ConfigError
from hvp.evaluation import distances, measures
from hvp.evaluation.curves import (
    COPY_LAST,
    IMAGE_MODEL,
    MEAN,
    ORACLE,
    RECONSTRUCTION,
    STRUCTURE_MODEL,
)
from hvp.evaluation.distances import FrameDistance, VideoDistance, colouriser
from hvp.evaluation.measures import (
    ImageLikeness,
    LabelAgreement,
    LabelStatistics,
    PerceptualDistance,
)
from hvp.evaluation.networks import load_networks, weights_state
from hvp.evaluation.protocol import Protocol
from hvp.evaluation.reconstruction import Reconstructor
from hvp.evaluation.results import Evaluation, NotComputed, load_results, save_results
from hvp.evaluation.runner import run_measures
from hvp.evaluation.streams import Clip
from hvp.labels import CITYSCAPES, LabelSpace
from hvp.metrics.fid import frechet_inception_distance
from hvp.metrics.frechet import FeatureNetwork
from hvp.metrics.perceptual import LPIPSNetwork
from hvp.metrics.video import frechet_video_distance
from hvp.reporting.summary import summarise
from hvp.structure.svg_lp.module import SVGLP
from hvp.structure.svg_lp.network import SVGLPNetwork

CPU = torch.device("cpu")
CONTEXT, HORIZON, SIZE = 2, 40, 32
PROTOCOL = Protocol("toy", "test", SIZE, SIZE, 1, 2, 2, CONTEXT, HORIZON, 8, 0)
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
    measure = VideoDistance(PROTOCOL, COLOUR, CPU, points=64)
    (result,), missing = run_measures(image_clips(), PROTOCOL, [measure])
    assert missing == []
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
    (result,), _ = run_measures(
        image_clips(), PROTOCOL, [FrameDistance(PROTOCOL, frame_colour, CPU)]
    )
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
    row = next(r for r in summarise(Evaluation((result,))) if r.metric == "fid")
    assert (row.window, row.steps) == ("all", f"1-{HORIZON}")


def test_fvd_of_labels_is_that_of_their_colours() -> None:
    space = LabelSpace("two", ("a", "b"), ((10, 20, 30), (200, 100, 0)))
    labels = (np.arange(CONTEXT + HORIZON)[:, None, None] % 2 * np.ones((SIZE, SIZE))).astype(
        np.uint8
    )
    clips = [Clip(n, labels, {STRUCTURE_MODEL: [labels, labels]}) for n in "ab"]
    measure = VideoDistance(PROTOCOL, COLOUR, CPU, 64, colouriser(space), "_labels")
    (result,), _ = run_measures(clips, PROTOCOL, [measure])
    exact = result.find_series(STRUCTURE_MODEL, "fvd_labels")
    still = result.find_series(COPY_LAST, "fvd_labels")
    assert exact is not None
    assert still is not None
    assert exact.values[0] == pytest.approx(0.0, abs=1e-6)
    # the mean colour of one frame against that of both
    assert still.values[0] == pytest.approx(95**2 + 40**2 + 15**2, rel=1e-6)


def test_too_few_windows_and_too_short_rollouts_are_said() -> None:
    short = [Clip(c.name, c.truth[:10], c.systems) for c in image_clips()]  # type: ignore[index]
    _, missing = run_measures(
        [Clip(c.name, c.truth, {IMAGE_MODEL: c.systems[IMAGE_MODEL]}) for c in short],
        PROTOCOL,
        [VideoDistance(PROTOCOL, COLOUR, CPU, 64)],
    )
    assert [item.what for item in missing] == ["FVD"]
    assert "at least 2" in missing[0].why
    with pytest.raises(ConfigError, match="shorter than a window"):
        VideoDistance(Protocol.from_dict(PROTOCOL.to_dict() | {"horizon": 9}), COLOUR, CPU, 64)


def test_lower_lpips_is_better_in_the_summary_and_best_of_s() -> None:
    measure = PerceptualDistance(PROTOCOL, IMAGE_MODEL, LPIPS, CPU)
    (result,), _ = run_measures(image_clips(), PROTOCOL, [measure])
    assert result.best_samples == {"lpips": {"clip 0": 0, "clip 1": 0}}
    assert result.protocol.feature_network == "mean difference (sha256 1)"
    row = next(r for r in summarise(Evaluation((result,))) if r.window == "all")
    assert row.model == pytest.approx(2 * 6 / 255, rel=1e-6)
    assert row.copy_last > row.model
    assert row.difference < 0 < row.gain
    assert row.others[ORACLE] == 0.0


def test_series_survive_the_files(tmp_path: Path) -> None:
    measure = VideoDistance(PROTOCOL, COLOUR, CPU, points=64)
    (result,), _ = run_measures(image_clips(), PROTOCOL, [measure])
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
    wanted = [LabelAgreement(PROTOCOL, CITYSCAPES), LabelStatistics(PROTOCOL, CITYSCAPES, 64)]
    (agreement, statistics), _ = run_measures(clips, PROTOCOL, wanted)
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
    reconstructor = Reconstructor(module, protocol, seed=3)
    identity = ClipId("a", 0, 1)
    frames = np.stack(list(reconstructor.stream(identity, truth)))
    assert frames.shape == truth.shape
    np.testing.assert_array_equal(frames[:CONTEXT], truth[:CONTEXT])
    again = np.stack(list(reconstructor.stream(identity, truth)))
    np.testing.assert_array_equal(frames, again)
    nll, kl = reconstructor.result().curves
    assert (nll.metric, kl.metric) == ("nll", "kl")
    assert nll.clips.tolist() == [2] * 6
    np.testing.assert_allclose(nll.values, np.log(3), atol=0.1)  # untrained: uniform
    clip = Clip("a", truth, {STRUCTURE_MODEL: [truth], RECONSTRUCTION: [iter(frames)]})
    assert len(run_measures([clip], protocol, [LabelAgreement(protocol, CITYSCAPES)])[0]) == 1


def test_no_metric_is_made_again_for_the_next_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    # Metrics that are thrown away pile up until the garbage collector comes; each is as long as the
    # horizon, or holds a covariance for every point.
    made: list[str] = []
    for module in (distances, measures):
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
    of_labels = [LabelAgreement(PROTOCOL, CITYSCAPES), LabelStatistics(PROTOCOL, CITYSCAPES, 64)]
    of_images = [
        ImageLikeness(PROTOCOL, IMAGE_MODEL),
        PerceptualDistance(PROTOCOL, IMAGE_MODEL, LPIPS, CPU),
        VideoDistance(PROTOCOL, COLOUR, CPU, 64),
        FrameDistance(PROTOCOL, colour, CPU),
    ]
    run_measures(label_clips, PROTOCOL, of_labels)
    run_measures(image_clips(), PROTOCOL, of_images)
    # One per system (of RGB there is an oracle), and one of the truth where sets are compared.
    assert Counter(made) == {
        "HorizonIoU": 2, "LabelDrift": 3, "HorizonImageQuality": 3, "HorizonLPIPS": 3,
        "SlidingFVD": 4, "FID": 4,
    }  # fmt: skip


def test_missing_weights_are_said_with_the_command_that_gets_them(tmp_path: Path) -> None:
    networks = load_networks(None, str(tmp_path / "no.pth"), "alex", CPU, "python run.py x=1")
    assert (networks.i3d, networks.lpips) == (None, None)
    fvd, lpips = networks.missing
    assert fvd.what.startswith("FVD and sliding-window FVD")
    assert "evaluate.i3d names no weights" in fvd.why
    assert fvd.command.startswith("curl -L -o i3d_torchscript.pt")
    assert fvd.command.endswith("python run.py x=1 evaluate.i3d=torchscript:i3d_torchscript.pt")
    assert "no.pth: no such file" in lpips.why
    assert lpips.command == "python run.py x=1 evaluate.lpips=download"
    (tmp_path / "no.pth").write_bytes(b"x")
    assert weights_state(str(tmp_path / "absent")) == "absent"
    assert weights_state(str(tmp_path / "no.pth")) not in (None, "absent")


def test_not_computed_items_are_kept(tmp_path: Path) -> None:
    missing = NotComputed("FVD", "Too short.", "longer clips")
    json_path, _ = save_results(tmp_path, Evaluation((), (missing,)))
    assert load_results(json_path).not_computed == (missing,)
