"""FID with a small network, its error without torch-fidelity, and its values against it."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hvp.errors import ConfigError, DataError
from hvp.metrics.fid import FID, frechet_inception_distance, load_inception
from hvp.metrics.frechet import FeatureNetwork


def frames(seed: int, count: int, low: int = 0) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(low, 256, (count, 3, 4, 4), generator=dice, dtype=torch.uint8)


def test_streamed_frames_give_the_distance_of_all_together() -> None:
    network = FeatureNetwork(lambda x: x.double().mean((2, 3)), 3, "mean colour")
    real, generated = frames(0, 40), frames(1, 30, low=60)
    metric = FID(network)
    for part in real.split(19):
        metric.update(part, real=True)
    with pytest.raises(DataError, match="0 items in a set"):
        metric.compute()
    metric.update(generated, real=False)
    expected = frechet_inception_distance(real, generated, network)
    torch.testing.assert_close(metric.compute(), expected, rtol=1e-9, atol=0)


def test_without_its_library_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)  # as on a machine without it
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", raising=False)
    with pytest.raises(
        ConfigError, match=r"evaluate.inception=download.*pip install torch-fidelity"
    ):
        load_inception("download", "evaluate.inception")


@pytest.mark.skipif(
    importlib.util.find_spec("torch_fidelity") is None, reason="pip install torch-fidelity"
)
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="weights of another network"):
        load_inception(str(tmp_path / "other.pth"), "evaluate.inception")
