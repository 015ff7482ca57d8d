"""SVG-LP LightningModule: training, logged losses, reproducible roll-outs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hvp.clips import ClipBatch, ClipId, collate
from hvp.errors import ConfigError
from hvp.labels import IGNORE
from hvp.structure.svg_lp.free_running import FreeRun, free_run
from hvp.structure.svg_lp.module import SVGLP
from hvp.structure.svg_lp.network import SVGLPNetwork, TrainingPass, negative_log_likelihood
from tests.helpers.svg_lp import trainer

BETA = 5e-4


class Clips(Dataset[ClipBatch]):
    """Four clips of a bar that moves down one row per frame."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> ClipBatch:
        labels = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
        for t in range(4):
            labels[0, t, 10 * index + t :][:8] = 1
        return ClipBatch(labels, [ClipId("bar", index, 1)])


def build(batch_norm: bool = False, **options: Any) -> SVGLP:
    torch.manual_seed(0)
    network = SVGLPNetwork(3, (64, 64), 2, 2, 3, 2, 4, batch_norm)
    return SVGLP(network, 1e-2, (0.9, 0.999), BETA, "frozen", "latest", **options)


def loader() -> DataLoader[ClipBatch]:
    return DataLoader(Clips(), batch_size=2, collate_fn=collate)


@pytest.mark.parametrize("free_running", [0.0, 1.0])
def test_training_lowers_the_loss_and_validation_is_deterministic(
    tmp_path: Path, free_running: float
) -> None:
    module = build(free_running=free_running)
    before = trainer(tmp_path, 1).validate(module, loader(), verbose=False)[0]
    again = trainer(tmp_path, 1).validate(module, loader(), verbose=False)[0]
    assert before == again
    fit = trainer(tmp_path, 15)
    fit.fit(module, loader())
    after = trainer(tmp_path, 1).validate(module, loader(), verbose=False)[0]
    assert after["val/loss"] < 0.8 * before["val/loss"]
    for stage, metrics in (("train", fit.callback_metrics), ("val", after)):
        expected = 4 * (metrics[f"{stage}/nll"] + BETA * metrics[f"{stage}/kl"])
        assert float(metrics[f"{stage}/loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_some_batches_are_free_running_and_always_the_same_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown() -> list[bool]:
        module, seen = build(free_running=0.5), []
        training_pass = module.network.training_pass

        def spy(labels: Tensor, policy: str, eps: Tensor, *free: Any) -> TrainingPass:
            seen.append(bool(free))
            return training_pass(labels, policy, eps, *free)  # type: ignore[arg-type]

        monkeypatch.setattr(module.network, "training_pass", spy)
        trainer(tmp_path, 15).fit(module, loader())
        return seen

    first = shown()
    assert 5 < sum(first) < 25
    assert len(first) == 30
    assert shown() == first


@pytest.mark.parametrize(("after", "expected"), [(0.0, 10), (0.7, 3), (1.0, 0)])
def test_free_running_begins_after_the_given_share_of_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float, expected: int
) -> None:
    module, calls = build(free_running=1.0, free_running_after=after), []

    def spy(*arguments: Any) -> FreeRun:
        calls.append(module.global_step)
        return free_run(*arguments)

    monkeypatch.setattr("hvp.structure.svg_lp.module.free_run", spy)
    trainer(tmp_path, 5).fit(module, loader())
    assert calls == list(range(10 - expected, 10))


@pytest.mark.parametrize("free_running", [0.0, 1.0])
def test_each_batch_trains_on_a_window_anywhere_in_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_running: float
) -> None:
    module, windows = build(free_running=free_running, window=1), []
    clips = next(iter(loader())).labels_BTHW
    module.clips_of = lambda batch: clips  # type: ignore[method-assign]
    training_pass = module.network.training_pass

    def spy(labels: Tensor, policy: str, eps: Tensor, *free: Any) -> TrainingPass:
        assert len(eps) == labels.shape[1] - 1
        starts = [t for t in range(4) if torch.equal(clips[:, t : t + labels.shape[1]], labels)]
        windows.append((starts[0], labels.shape[1], bool(free) and free[1] is not None))
        return training_pass(labels, policy, eps, *free)  # type: ignore[arg-type]

    monkeypatch.setattr(module.network, "training_pass", spy)
    trainer(tmp_path, 10).fit(module, loader())
    # Clips of 2 + 2 frames: context and one frame, or recurrent state and the frame after it.
    second = (2, 2, True) if free_running else (1, 3, False)
    assert set(windows) == {(0, 3, False), second}


def test_window_longer_than_the_clip_is_the_whole_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(window: int | None) -> float:
        module = build(free_running=0.5, window=window)
        fit = trainer(tmp_path, 3)
        fit.fit(module, loader())
        return float(fit.callback_metrics["train/loss"])

    assert losses(9) == losses(None) != losses(1)


def test_window_without_a_frame_is_refused() -> None:
    with pytest.raises(ConfigError, match="window is 0; give at least 1 frame"):
        build(window=0)


def test_share_of_the_training_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="free_running_after is 2400; give a share"):
        build(free_running_after=2400)


def test_free_running_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ConfigError, match="free_running is 2; give a probability"):
        build(free_running=2)


def test_sampled_futures_start_with_the_context_and_depend_on_seed_and_clip_alone() -> None:
    module = build(batch_norm=True)
    with torch.no_grad():
        for name, parameter in module.network.named_parameters():
            if "bn" not in name:
                parameter.normal_(0.0, 0.3)
    batch = next(iter(loader()))
    futures = module.sample_futures(batch, horizon=3, n_samples=2, seed=1)
    assert futures.shape == (2, 2, 5, 64, 64)
    assert futures.dtype == torch.uint8
    assert torch.equal(futures[:, 1, :2], batch.labels_BTHW[:, :2])
    assert module.network.training
    assert torch.equal(module.sample_futures(Clips()[1], 3, 2, seed=1), futures[1:])
    assert not torch.equal(module.sample_futures(batch, 3, 2, seed=2), futures)


def test_unknown_skip_policy_is_refused_at_construction() -> None:
    with pytest.raises(ConfigError, match="rollout_skip is 'newest'"):
        SVGLP(
            build().network,
            1e-4,
            (0.9, 0.999),
            BETA,
            "frozen",
            "newest",  # type: ignore[arg-type]
        )


def test_class_balance_weighs_the_pixels_of_the_loss_and_leaves_the_logged_likelihood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop over maps and classes."""
    balance = 0.5
    plain, module = build(), build(class_balance=balance)
    for each in (plain, module):  # else all classes are as likely, and weights change nothing
        each.network.decoder.classes.bias.data = torch.tensor([1.0, 0.0, -1.0])
    training_pass, results = module.network.training_pass, []

    def spy(*arguments: Any) -> TrainingPass:
        results.append(training_pass(*arguments))
        return results[-1]

    monkeypatch.setattr(module.network, "training_pass", spy)
    before = trainer(tmp_path, 1).validate(plain, loader(), verbose=False)[0]
    found = trainer(tmp_path, 1).validate(module, loader(), verbose=False)[0]
    assert found["val/nll"] == before["val/nll"]

    losses = []
    for batch, result in zip(loader(), results, strict=True):
        loss = BETA * result.kl_T.sum()
        truth_TBHW = batch.labels_BTHW.transpose(0, 1)[1:].long()
        for scores_BCHW, truth_BHW in zip(result.scores_TBCHW, truth_TBHW, strict=True):
            for scores, truth in zip(scores_BCHW, truth_BHW, strict=True):
                nll = -scores.log_softmax(0).gather(0, truth[None])[0]
                weights = torch.zeros_like(nll)
                for label in truth.unique():
                    weights[truth == label] = float((truth == label).sum()) ** -balance
                loss = loss + (weights * nll).sum() / weights.sum() / len(truth_BHW)
        losses.append(float(loss))
    assert found["val/loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert found["val/loss"] != pytest.approx(before["val/loss"], rel=1e-2)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_class_balance_ignores_what_has_no_label(balance: float) -> None:
    scores = torch.randn(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    labels[0, 0, :2] = 2
    labels[0, 0, 4:] = IGNORE
    labels[1] = IGNORE
    cut = negative_log_likelihood(scores[..., :4, :], labels[..., :4, :], balance)
    assert torch.allclose(negative_log_likelihood(scores, labels, balance), cut)
    assert cut[0] > 0
    assert cut[1] == 0


def test_class_balance_outside_its_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="class_balance is 2; give a number from 0 to 1"):
        build(class_balance=2)
