"""SVG-LP on RGB: training and roll-outs in pixel space."""

from operator import itemgetter
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from hvp.clips import ClipBatch, ClipId
from hvp.errors import ConfigError
from hvp.structure.svg_lp.rgb import PixelNetwork, PixelSVGLP
from tests.helpers.svg_lp import trainer


def build(free_running: float = 0.0) -> PixelSVGLP:
    torch.manual_seed(0)
    network = PixelNetwork((64, 64), n_past=2, base_width=4, latent_width=4, noise_width=2,
                         rnn_width=4, init_std=None)  # fmt: skip
    return PixelSVGLP(
        network, 1e-2, (0.9, 0.999), 1e-6, "frozen", "latest", free_running=free_running
    )


def batch() -> ClipBatch:
    """Two clips of a bright bar that moves down two rows per frame on dark green."""
    frames = torch.zeros(2, 4, 3, 64, 64, dtype=torch.uint8)
    frames[:, :, 1] = 60
    for clip in range(2):
        for t in range(4):
            frames[clip, t, :, 20 * clip + 2 * t :][:, :10] = 230
    labels = torch.zeros(2, 4, 64, 64, dtype=torch.uint8)
    return ClipBatch(labels, [ClipId("bar", clip, 1) for clip in range(2)], frames)


@pytest.mark.parametrize("free_running", [0.0, 1.0])
def test_training_lowers_the_mean_squared_error(tmp_path: Path, free_running: float) -> None:
    module = build(free_running)
    clips = DataLoader([batch()], batch_size=1, collate_fn=itemgetter(0))  # type: ignore[arg-type]
    before = trainer(tmp_path, 1).validate(module, clips, verbose=False)[0]
    trainer(tmp_path, 25).fit(module, clips)
    after = trainer(tmp_path, 1).validate(module, clips, verbose=False)[0]
    assert after["val/mse"] < 0.5 * before["val/mse"]


def test_error_is_that_of_frames_in_0_to_1() -> None:
    module, frames = build(), batch().frames_BT3HW
    assert frames is not None
    result = module.network.training_pass(frames, "frozen")
    predicted = torch.sigmoid(result.scores_TBCHW)
    truth = frames.transpose(0, 1)[1:] / 255.0
    expected = [torch.nn.functional.mse_loss(p, q) for p, q in zip(predicted, truth, strict=True)]
    torch.testing.assert_close(result.nll_T, torch.stack(expected))


def test_rollout_feeds_back_its_own_frames() -> None:
    module = build()
    futures = torch.stack(list(module.stream_futures(batch(), 3, 2, seed=1)), dim=2)
    assert (futures.shape, futures.dtype) == ((2, 2, 3, 3, 64, 64), torch.uint8)
    network = module.network
    seen: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    context = batch().frames_BT3HW[:, :2]  # type: ignore[index]
    noise = network.seeded_noise([1, 2], 2, 2)
    given = list(network.rollout(context, 3, 2, "latest", noise))
    torch.testing.assert_close(seen[0], context.transpose(0, 1).flatten(0, 1) / 255.0)
    for frame, fed_back in zip(given, seen[1:], strict=False):
        assert torch.equal(frame.flatten(0, 1), fed_back)


def test_label_maps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected \(B, T, 3, H, W\)"):
        build().network.training_pass(torch.zeros(1, 3, 64, 64, 1, dtype=torch.uint8), "frozen")
