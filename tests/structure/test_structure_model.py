"""SVG-LP network: training pass and roll-out against the step-by-step oracle."""

import copy
from itertools import islice

import pytest
import torch
from torch import Tensor

from hvp.errors import ConfigError
from hvp.labels import IGNORE
from hvp.structure.svg_lp.free_running import free_run
from hvp.structure.svg_lp.layers import ARCHITECTURES
from hvp.structure.svg_lp.network import SVGLPNetwork
from tests.helpers.svg_lp import N_PAST, assert_same, build, draw_eps, draw_labels
from tests.structure import oracle

BETA = 5e-4
SIZES = list(ARCHITECTURES)
every_size = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
every_policy = pytest.mark.parametrize("policy", ["frozen", "latest"])


def draw_blocks(size: tuple[int, int], length: int) -> Tensor:
    """Label maps of two clips in 8x8 blocks."""
    coarse = draw_labels((size[0] // 8, size[1] // 8), length=length)
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)


@every_size
@every_policy
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batchnorm"])
def test_training_pass_matches_stepwise_oracle(
    size: tuple[int, int], policy: str, batch_norm: bool
) -> None:
    model = build(size, batch_norm)
    naive = copy.deepcopy(model)
    labels_BTHW = draw_labels(size, n_clips=1 if size == (256, 256) else 2)
    eps = draw_eps(model, labels_BTHW)
    result = model.training_pass(labels_BTHW, policy, eps)
    expected = oracle.training_pass(naive, labels_BTHW, policy, eps, BETA)
    result.loss(BETA).backward()
    expected.loss.backward()
    assert_same(result.nll_T, expected.nll_T)
    assert_same(result.kl_T, expected.kl_T)
    assert_same(result.loss(BETA), expected.loss)
    assert_same(result.scores_TBCHW.log_softmax(2), expected.log_probs_TBCHW)
    for (name, ours), theirs in zip(model.named_parameters(), naive.parameters(), strict=True):
        assert ours.grad is not None, name
        assert_same(ours.grad, theirs.grad, name)
    for (name, ours), theirs in zip(model.named_buffers(), naive.buffers(), strict=True):
        assert_same(ours, theirs, name)


@every_policy
@pytest.mark.parametrize("length", [3, 6])
def test_free_running_pass_matches_stepwise_oracle(policy: str, length: int) -> None:
    model = build((64, 64))
    naive = copy.deepcopy(model)
    labels_BTHW = draw_labels((64, 64), length=length)
    eps = draw_eps(model, labels_BTHW)
    shown = free_run(model, labels_BTHW, policy, eps).inputs_NCHW
    result = model.training_pass(labels_BTHW, policy, eps, shown)
    expected = oracle.training_pass(naive, labels_BTHW, policy, eps, BETA, free_running=True)
    result.loss(BETA).backward()
    expected.loss.backward()
    assert_same(result.nll_T, expected.nll_T)
    assert_same(result.kl_T, expected.kl_T)
    for (name, ours), theirs in zip(model.named_parameters(), naive.parameters(), strict=True):
        assert ours.grad is not None, name
        assert_same(ours.grad, theirs.grad, name)
    # Free running must differ from teacher forcing, or the comparison proves nothing.
    forced = model.training_pass(labels_BTHW, policy, eps)
    assert torch.equal(forced.nll_T, result.nll_T) == (length <= N_PAST + 1)


@every_policy
@pytest.mark.parametrize("first", [N_PAST, N_PAST + 2])
def test_window_of_a_free_run_matches_stepwise_oracle(policy: str, first: int) -> None:
    model = build((64, 64))
    naive = copy.deepcopy(model)
    labels_BTHW = draw_labels((64, 64), length=N_PAST + 5)
    eps = draw_eps(model, labels_BTHW)
    run = free_run(model, labels_BTHW, policy, eps, first)
    result = model.training_pass(
        labels_BTHW[:, first:], policy, eps[first:], run.inputs_NCHW, run.state
    )
    expected = oracle.training_pass(naive, labels_BTHW, policy, eps, BETA, True, first)
    result.loss(BETA).backward()
    expected.loss.backward()
    assert len(result.nll_T) == N_PAST + 4 - first
    assert_same(result.nll_T, expected.nll_T)
    assert_same(result.kl_T, expected.kl_T)
    for (name, ours), theirs in zip(model.named_parameters(), naive.parameters(), strict=True):
        assert ours.grad is not None, name
        assert_same(ours.grad, theirs.grad, name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("first", [0, N_PAST])
def test_free_run_leaves_a_model_with_batch_norm_as_it_was(training: bool, first: int) -> None:
    model = build((64, 64), batch_norm=True).train(training)
    before = copy.deepcopy(model.state_dict())
    labels_BTHW = draw_labels((64, 64), length=N_PAST + 3)
    eps = draw_eps(model, labels_BTHW)
    run = free_run(model, labels_BTHW, "frozen", eps, first)
    assert model.training == training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    # One call each for the encoder inputs, the true frames and the context frame of frozen skips.
    window, eps = labels_BTHW[:, first:], eps[first:]
    model.train().training_pass(window, "frozen", eps, run.inputs_NCHW, run.state).loss(
        BETA
    ).backward()
    n_calls = 2 * (window.shape[1] - 1) + (first > 0)
    assert model.encoder.levels[0][0].bn.num_batches_tracked == n_calls


@every_size
def test_scaled_initialisation_begins_by_repeating_the_last_context_frame(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    model = SVGLPNetwork(5, size, N_PAST, 8, 8, 2, 8, init_std=None)
    context_BTHW = draw_blocks(size, N_PAST)
    noise = model.seeded_noise([1, 2], N_PAST, 1)
    frames = torch.stack(list(model.rollout(context_BTHW, 2, 1, "frozen", noise)), 2)[:, 0]
    last_BTHW = context_BTHW[:, -1:].expand_as(frames)
    assert (frames == last_BTHW).float().mean() > 0.9


def test_scaled_initialisation_starts_with_equal_gaussians_that_can_part() -> None:
    torch.manual_seed(0)
    model = SVGLPNetwork(5, (64, 64), N_PAST, 4, 8, 2, 8, init_std=None)
    result = model.training_pass(draw_labels((64, 64)), "frozen")
    assert torch.equal(result.kl_T, torch.zeros_like(result.kl_T))
    result.loss(BETA).backward()
    assert model.prior.mu.weight.grad is not None
    assert model.posterior.mu.weight.grad is not None
    assert model.posterior.mu.weight.grad.abs().max() > 0  # zero weights can be left


@every_size
@every_policy
def test_rollout_matches_stepwise_oracle(size: tuple[int, int], policy: str) -> None:
    model = build(size, batch_norm=True).eval()
    context_BTHW = draw_labels(size, length=N_PAST)
    noise = list(islice(model.seeded_noise([7, 8], N_PAST, 2), N_PAST - 1 + 3))
    steps = model.rollout(context_BTHW, 3, 2, policy, iter(noise))
    actual_BSTHW = torch.stack(list(steps), dim=2)
    expected_BSTHW = oracle.rollout(model, context_BTHW, 3, 2, policy, noise)
    assert torch.equal(actual_BSTHW, expected_BSTHW)
    assert actual_BSTHW.dtype == torch.uint8
    # Samples and steps must differ, or the comparison proves nothing.
    assert not torch.equal(actual_BSTHW[:, 0], actual_BSTHW[:, 1])
    assert not torch.equal(actual_BSTHW[:, :, 0], actual_BSTHW[:, :, 2])


def test_rollout_from_a_single_context_frame_matches_oracle() -> None:
    model = build((64, 64)).eval()
    context_BTHW = draw_labels((64, 64), length=1)
    noise = list(islice(model.seeded_noise([7, 8], 1, 2), 3))
    steps = model.rollout(context_BTHW, 3, 2, "frozen", iter(noise))
    expected_BSTHW = oracle.rollout(model, context_BTHW, 3, 2, "frozen", noise)
    assert torch.equal(torch.stack(list(steps), dim=2), expected_BSTHW)


def test_futures_of_a_clip_do_not_depend_on_its_batch_nor_on_the_sample_count() -> None:
    model = build((64, 64)).eval()
    context_BTHW = draw_labels((64, 64), n_clips=2, length=N_PAST)

    def roll(clips: list[int], n_samples: int) -> Tensor:
        noise = model.seeded_noise([[40, 41][clip] for clip in clips], N_PAST, n_samples)
        steps = model.rollout(context_BTHW[clips], 3, n_samples, "frozen", noise)
        return torch.stack(list(steps), dim=2)

    together = roll([0, 1], 3)
    assert torch.equal(together[1:], roll([1], 3))
    assert torch.equal(together[:, :2], roll([0, 1], 2))
    assert torch.equal(together, roll([0, 1], 3))


def test_ignored_pixels_neither_count_nor_enter() -> None:
    model = build((64, 64))
    labels_BTHW = draw_labels((64, 64))
    eps = draw_eps(model, labels_BTHW)
    labels_BTHW[:, -1, :32] = IGNORE
    labels_BTHW[:, 2] = IGNORE
    result = model.training_pass(labels_BTHW, "latest", eps)
    log_probs = result.scores_TBCHW.log_softmax(2)[-1, :, :, 32:]
    expected = torch.nn.functional.nll_loss(log_probs, labels_BTHW[:, -1, 32:].long())
    assert_same(result.nll_T[-1], expected)
    assert result.nll_T[1] == 0
    result.loss(BETA).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        model = SVGLPNetwork(19, (64, 64), 5)
    assert sum(parameter.numel() for parameter in model.parameters()) == 25_801_619


def test_unsupported_size_names_the_supported_ones() -> None:
    with pytest.raises(ConfigError, match=r"96x96.*64x64, 128x128, 256x256, 128x256"):
        SVGLPNetwork(19, (96, 96), 5)


def test_label_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"are 64x128 .* built for 64x64"):
        build((64, 64)).training_pass(torch.zeros(1, 3, 64, 128, dtype=torch.uint8), "frozen")


def test_unknown_skip_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="'oldest'"):
        build((64, 64)).training_pass(draw_labels((64, 64)), "oldest")  # type: ignore[arg-type]


def test_rollout_in_training_mode_is_refused_with_batch_norm() -> None:
    model = build((64, 64), batch_norm=True).train()
    noise = model.seeded_noise([0, 1], N_PAST, 1)
    with pytest.raises(RuntimeError, match="eval"):
        next(model.rollout(draw_labels((64, 64), length=N_PAST), 1, 1, "frozen", noise))
