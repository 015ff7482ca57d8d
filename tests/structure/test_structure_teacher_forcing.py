"""Posterior reconstruction, streamed, equals the batched training pass."""

import pytest
import torch

from hvp.structure.svg_lp.network import SkipPolicy
from hvp.structure.svg_lp.reconstruction import reconstruct_stream
from tests.helpers.svg_lp import assert_same, build, draw_eps, draw_labels


@pytest.mark.parametrize("policy", ["frozen", "latest"])
def test_streamed_pass_equals_the_batched_one(policy: SkipPolicy) -> None:
    model, labels_BTHW = build((64, 64)), draw_labels((64, 64))
    eps_TBzhw = draw_eps(model, labels_BTHW)
    with torch.no_grad():
        expected = model.training_pass(labels_BTHW, policy, eps_TBzhw)
    reconstructed_TBHW = expected.scores_TBCHW.argmax(2).to(torch.uint8)
    steps = list(reconstruct_stream(model, labels_BTHW.unbind(1), policy, iter(eps_TBzhw)))
    assert len(steps) == labels_BTHW.shape[1] - 1
    for t, step in enumerate(steps):
        assert_same(step.nll_B.mean(), expected.nll_T[t], "nll")
        assert_same(step.kl_B.mean(), expected.kl_T[t], "kl")
        assert torch.equal(step.labels_BHW, reconstructed_TBHW[t])
    assert not torch.equal(steps[0].nll_B[0], steps[0].nll_B[1])  # each clip's own
