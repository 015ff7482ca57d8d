"""Golden tensors of the published vid2vid implementation, float64."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hvp.image.vid2vid import published
from hvp.image.vid2vid.discriminators import ImageDiscriminator, TemporalDiscriminators
from hvp.image.vid2vid.losses import Objective, generator_loss, loss_inputs
from hvp.image.vid2vid.sequence import (
    GeneratedSequence,
    SequenceGenerator,
    one_hot,
    temporal_groups,
)

FOLDER = Path(os.environ.get("HVP_GOLDEN_DIR", "../shared/data/golden"))
FILES = sorted(FOLDER.glob("image_*.pt"))
NO_FILES = f"no image_*.pt in {FOLDER} (set HVP_GOLDEN_DIR)"
TOLERANCE = 1e-6

pytestmark = pytest.mark.skipif(not FILES, reason=NO_FILES)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).detach().abs().max() / theirs.abs().max().clamp_min(1e-12))


class Golden:
    """A golden file and our networks with its weights."""

    def __init__(self, path: Path) -> None:
        self.data: dict[str, Any] = torch.load(path, weights_only=True)
        s = self.settings = self.data["settings"]
        checkpoint = self.data["checkpoint"]
        self.generator = SequenceGenerator(
            n_classes=s["label_nc"],
            n_frames_G=s["n_frames_G"],
            ngf=s["ngf"],
            n_down=s["n_downsample_G"],
            n_blocks=s["n_blocks"],
            n_blocks_local=s["n_blocks_local"],
            n_scales_spatial=s["n_scales_spatial"],
            foreground_classes=s["fg_labels"] if s["fg"] else [],
            no_flow=s["no_flow"],
            synthesise_first=s["no_first_img"],
            norm=s["norm"],
            flow_multiplier=20.0,
        ).double()
        self.generator.load_state_dict(published.generator_state(checkpoint, s["n_blocks_local"]))
        d = {"ndf": s["ndf"], "n_layers": s["n_layers_D"], "num_D": s["num_D"], "norm": s["norm"]}
        image_discriminator = ImageDiscriminator(n_classes=s["label_nc"], **d)
        temporal = TemporalDiscriminators(
            n_scales_temporal=s["n_scales_temporal"],
            n_frames_D=s["n_frames_D"],
            flow_scale=20.0,
            **d,
        )
        image_discriminator.load_state_dict(
            published.image_discriminator_state(checkpoint, s["num_D"])
        )
        temporal.load_state_dict(published.temporal_discriminators_state(checkpoint, s["num_D"]))
        self.objective = Objective(
            image_discriminator,
            temporal,
            lambda_feat=s["lambda_feat"],
            lambda_F=s["lambda_F"],
            lambda_T=s["lambda_T"],
        ).double()

    def generate(self) -> GeneratedSequence:
        s = self.settings
        labels = one_hot(self.data["labels"][None], s["label_nc"], torch.float64)
        context = self.data["frames"][None, : s["n_frames_G"] - 1]
        return self.generator(
            labels,
            self.generator.start(context),
            n_frames_bp=s["n_frames_bp"],
            n_raw_only=s["frames"] if s["no_first_img"] else 0,
        )

    def frame_terms(self) -> dict[str, Tensor]:
        s = self.settings
        n_given = s["n_frames_G"] - 1
        generated = self.generate()
        real = self.data["frames"][None]
        frames = loss_inputs(
            generated,
            before_B13HW=real[:, n_given - 1 : n_given],
            labels_BTCHW=one_hot(self.data["labels"][None], s["label_nc"], torch.float64),
            real_BT3HW=real,
            reference=(self.data["flow_reference"][None], self.data["confidence"][None]),
            first=0,
            n_given=n_given,
        )
        return self.objective.frame_terms(frames, s["n_scales_spatial"], s["no_first_img"])


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_golden_generator_outputs(golden: Golden) -> None:
    generated = golden.generate()
    outputs = {
        "fake": generated.fake_BN3HW,
        "raw": generated.raw_BN3HW,
        "flow": generated.flow_BN2HW,
        "weight": generated.weight_BN1HW,
    }
    for name, ours in outputs.items():
        theirs = golden.data[name]
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            assert relative_error(ours[0], theirs) < TOLERANCE, name


def test_golden_loss_terms(golden: Golden) -> None:
    if "losses" not in golden.data:
        pytest.skip("the file holds generator outputs only")
    terms = golden.frame_terms()
    for name, theirs in golden.data["losses"].items():
        ours = terms.pop(name, torch.zeros((), dtype=torch.float64))  # absent: switched off
        assert relative_error(ours, theirs) < TOLERANCE, name
    assert not terms, "terms that the published code does not have"


def test_golden_generator_gradients(golden: Golden) -> None:
    if "generator_loss" not in golden.data:
        pytest.skip("the file holds generator outputs only")
    loss = generator_loss(golden.frame_terms())
    assert relative_error(loss, golden.data["generator_loss"]) < TOLERANCE
    loss.backward()
    norms = {
        name: parameter.grad.norm()
        for name, parameter in golden.generator.named_parameters()
        if parameter.grad is not None
    }
    largest = max(norms.values())
    for key, published_norms in golden.data["generator_grad_norms"].items():
        for name, theirs in published_norms.items():
            ours = norms.pop(
                published.generator_name(name, int(key[1:]), golden.settings["n_blocks_local"])
            )
            # A bias before a batch norm has gradient zero up to rounding: compare those absolutely.
            assert abs(ours - theirs) <= TOLERANCE * max(theirs, 1e-6 * largest), (key, name)
    assert not norms, "gradients that the published code does not have"


def test_golden_temporal_selection_and_terms(golden: Golden) -> None:
    if "temporal" not in golden.data:
        pytest.skip("the file holds generator outputs only")
    temporal = golden.data["temporal"]
    n_frames = len(temporal["real"])
    for scale, expected in enumerate(temporal["scales"]):
        groups = temporal_groups(0, n_frames, scale, golden.settings["n_frames_D"])
        assert groups == expected["frame_indices"]
        terms = golden.objective.temporal_terms(
            scale,
            temporal["real"][torch.tensor(groups)],
            temporal["fake"][torch.tensor(groups)],
            expected["flow_reference"],
        )
        for name, theirs in expected["losses"].items():
            ours = terms.pop(f"{name}{scale}", torch.zeros((), dtype=torch.float64))
            assert relative_error(ours, theirs) < TOLERANCE, (scale, name)
        assert not terms
