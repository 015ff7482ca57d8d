"""Golden numbers of the published SVG-LP implementation, from its own checkpoints, float64."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hvp.structure.svg_lp.network import SVGLPNetwork
from hvp.structure.svg_lp.published import NETWORKS, convert_key, import_published

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("HVP_GOLDEN_DIR", ROOT / "../shared/data/golden"))
FILES = sorted(FOLDER.glob("structure_*.pt"))
POLICIES = ("frozen", "latest")

pytestmark = pytest.mark.skipif(
    not FILES, reason=f"no structure_*.pt in {FOLDER}: set HVP_GOLDEN_DIR to the golden files"
)
every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
every_policy = pytest.mark.parametrize("policy", POLICIES)


def load(file: Path, tmp_path: Path) -> tuple[dict[str, Any], SVGLPNetwork]:
    golden = torch.load(file, weights_only=True)
    torch.save(golden["checkpoint"], tmp_path / "last.pth")
    published = import_published(tmp_path / "last.pth")
    settings = golden["settings"]
    assert published.settings == {
        "n_classes": settings["classes"],
        "size": tuple(settings["size"]),
        "base_width": settings["base_width"],
        "latent_width": settings["g_dim"],
        "noise_width": settings["z_dim"],
        "rnn_width": settings["rnn_width"],
        "batch_norm": settings["batch_norm"],
    }
    model = SVGLPNetwork(**published.settings, n_past=settings["n_past"]).double()
    model.load_state_dict(published.state)
    return golden, model


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0.0)


@every_file
@every_policy
def test_golden_training_pass_and_every_gradient_norm(
    file: Path, policy: str, tmp_path: Path
) -> None:
    golden, model = load(file, tmp_path)
    expected = golden[f"train_{policy}"]
    labels_BTHW = golden["labels"].transpose(0, 1)
    n_steps = labels_BTHW.shape[1] - 1
    result = model.train().training_pass(labels_BTHW, policy, golden["eps_posterior"][:n_steps])
    loss = result.loss(golden["settings"]["beta"])
    loss.backward()
    assert_same(result.nll_T.detach(), expected["nll"])
    assert_same(result.kl_T.detach(), expected["kl"])
    assert_same(loss.detach(), expected["loss"])
    assert_same(
        result.scores_TBCHW.log_softmax(2)[-1, ..., ::8, ::8].detach(),
        expected["log_probs_last_step_every_8th_pixel"],
    )
    parameters = dict(model.named_parameters())
    compared = set()
    for network in NETWORKS:
        for name, norm in expected["grad_norms"][network].items():
            ours = convert_key(network, name, model.size)
            gradient = parameters[ours].grad
            assert gradient is not None
            torch.testing.assert_close(gradient.norm(), norm, rtol=1e-6, atol=1e-12, msg=ours)
            compared.add(ours)
    assert compared == parameters.keys()


@every_file
@every_policy
def test_golden_rollout_label_for_label(file: Path, policy: str, tmp_path: Path) -> None:
    golden, model = load(file, tmp_path)
    if f"rollout_{policy}" not in golden:
        pytest.skip("this golden file holds no rollout")
    expected_BTHW = golden[f"rollout_{policy}"].transpose(0, 1)
    n_past = golden["settings"]["n_past"]
    horizon = expected_BTHW.shape[1] - n_past
    noise = [
        *golden["eps_posterior"][: n_past - 1],
        *golden["eps_prior"][n_past - 1 :].unsqueeze(2),
    ]
    context_BTHW = golden["labels"].transpose(0, 1)[:, :n_past]
    steps = model.eval().rollout(context_BTHW, horizon, 1, policy, iter(noise))
    generated_BTHW = torch.stack([step[:, 0] for step in steps], dim=1)
    assert torch.equal(torch.cat([context_BTHW, generated_BTHW], dim=1), expected_BTHW)
