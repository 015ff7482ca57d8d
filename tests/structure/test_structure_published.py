"""Checkpoint importer of published SVG-LP weights: both layouts, command line, errors."""

import argparse
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hvp.clips import ClipBatch, ClipId
from hvp.errors import ArtifactError
from hvp.structure.svg_lp.layers import ARCHITECTURES
from hvp.structure.svg_lp.module import SVGLP
from hvp.structure.svg_lp.network import SVGLPNetwork
from hvp.structure.svg_lp.published import NETWORKS, convert_key, import_published, main


def build(size: tuple[int, int] = (64, 64), batch_norm: bool = False) -> SVGLPNetwork:
    torch.manual_seed(0)
    return SVGLPNetwork(5, size, 2, 2, 3, 4, 6, batch_norm)


def published_names(size: tuple[int, int], batch_norm: bool) -> dict[str, list[str]]:
    """The published parameter and buffer names, spelled out from the published architecture."""
    table = ARCHITECTURES[size]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def block(prefix: str) -> list[str]:
        names = [f"{prefix}.conv.weight", f"{prefix}.conv.bias"]
        return names + [f"{prefix}.bn.{name}" for name in norm] * batch_norm

    def conv(prefix: str) -> list[str]:
        return [f"{prefix}.weight", f"{prefix}.bias"]

    def lstm(layer: int) -> list[str]:
        return [
            f"lstm.{layer}.{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")
        ]

    encoder = [
        name
        for level, (_, depth) in enumerate(table.encoder, 1)
        for index in range(depth)
        for name in block(f"c{level}.{index}")
    ]
    decoder = [
        name
        for level, widths in enumerate(table.decoder, 1)
        for index in range(len(widths))
        for name in block(f"c{level}.{index}")
    ]
    gaussian = [*conv("embed"), *lstm(0), *conv("mu_net.0"), *conv("logvar_net.0")]
    return {
        "encoder": encoder + conv(f"c{len(table.encoder) + 1}.0.conv"),
        "decoder": decoder + conv(f"c{len(table.decoder)}.1.conv"),
        "frame_predictor": [*conv("embed"), *lstm(0), *lstm(1), *conv("output.0")],
        "posterior": gaussian,
        "prior": gaussian,
    }


def to_published(model: SVGLPNetwork, prefix: str = "") -> dict[str, dict[str, Tensor]]:
    state = model.state_dict()
    names = published_names(model.size, "encoder.levels.0.0.bn.weight" in state)
    return {
        network: {
            f"{prefix}{name}": state[convert_key(network, name, model.size)] for name in names_
        }
        for network, names_ in names.items()
    }


def assert_equal_states(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


@pytest.mark.parametrize("size", list(ARCHITECTURES), ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batchnorm"])
@pytest.mark.parametrize("prefix", ["", "module."], ids=["bare", "module"])
def test_single_file_with_optimizers_and_options_is_imported(
    tmp_path: Path, size: tuple[int, int], batch_norm: bool, prefix: str
) -> None:
    model = build(size, batch_norm)
    optimizer = torch.optim.Adam(model.parameters())
    content = {
        **to_published(model, prefix),
        **{f"{network}_optimizer": optimizer.state_dict() for network in NETWORKS},
        "global_iter": 100_000,
        "opt": argparse.Namespace(dataset="KITTI_64", n_past=5, lr=1e-4),
    }
    torch.save(content, tmp_path / "last.pth")
    published = import_published(tmp_path / "last.pth")
    assert published.settings["size"] == size
    assert published.settings["batch_norm"] == batch_norm
    rebuilt = SVGLPNetwork(**published.settings, n_past=2)
    rebuilt.load_state_dict(published.state)
    assert_equal_states(rebuilt.state_dict(), model.state_dict())


@pytest.mark.parametrize("layout", ["flat", "tagged", "tagged with latest"])
def test_deepspeed_directory_is_imported(tmp_path: Path, layout: str) -> None:
    model = build()
    for network, state in to_published(model).items():
        directory = tmp_path / network
        if layout != "flat":
            (directory / "global_step9").mkdir(parents=True)
        if layout == "tagged with latest":
            (directory / "global_step3").mkdir()
            torch.save({"module": {}}, directory / "global_step3/mp_rank_00_model_states.pt")
            (directory / "latest").write_text("global_step9\n")
        if layout != "flat":
            directory = directory / "global_step9"
        directory.mkdir(exist_ok=True)
        content = {"module": state, "step": 3, "opt": argparse.Namespace(n_past=5)}
        torch.save(content, directory / "mp_rank_00_model_states.pt")
    assert_equal_states(import_published(tmp_path).state, model.state_dict())


class _OneClip(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> ClipBatch:
        labels = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
        return ClipBatch(labels, [ClipId("a", 0, 1)])


def test_command_line_writes_a_checkpoint_that_lightning_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build()
    torch.save(to_published(model, "module."), tmp_path / "last.pth")
    destination = tmp_path / "out" / "imported.ckpt"
    assert main([str(tmp_path / "last.pth"), str(destination)]) == 0
    assert "n_classes=5" in capsys.readouterr().out
    assert torch.load(destination, weights_only=True)["model"] == {
        "name": "svg_lp",
        "version": 1,
        "settings": {
            "network": {
                "n_classes": 5, "size": [64, 64], "base_width": 2, "latent_width": 3,
                "noise_width": 4, "rnn_width": 6, "batch_norm": False,
            }
        },
    }  # fmt: skip
    torch.manual_seed(5)
    fresh = SVGLP(
        SVGLPNetwork(5, (64, 64), 2, 2, 3, 4, 6), 1e-4, (0.9, 0.999), 5e-4, "frozen", "latest"
    )
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    loader = DataLoader(_OneClip(), batch_size=None)
    trainer.validate(fresh, loader, ckpt_path=str(destination), verbose=False)
    assert_equal_states(fresh.network.state_dict(), model.state_dict())


def test_command_line_reports_a_missing_file_without_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.pth"), str(tmp_path / "out.ckpt")]) == 1
    assert "none.pth: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out.ckpt").exists()


def test_file_that_needs_code_is_refused(tmp_path: Path) -> None:
    torch.save({**to_published(build()), "net": nn.Linear(1, 1)}, tmp_path / "last.pth")
    with pytest.raises(ArtifactError, match=r"last\.pth: holds torch\.nn.*Linear.*weights_only"):
        import_published(tmp_path / "last.pth")


def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ArtifactError, match=r"last\.pth"):
        import_published(tmp_path / "last.pth")


def test_missing_network_is_named(tmp_path: Path) -> None:
    content = to_published(build())
    del content["prior"]
    torch.save(content, tmp_path / "last.pth")
    with pytest.raises(ArtifactError, match="no state dict 'prior'"):
        import_published(tmp_path / "last.pth")


def test_missing_directory_of_a_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"encoder/mp_rank_00_model_states\.pt"):
        import_published(tmp_path)


def test_parameter_of_another_shape_is_named(tmp_path: Path) -> None:
    content = to_published(build())
    content["posterior"]["embed.weight"] = torch.zeros(7, 3, 3, 3)
    torch.save(content, tmp_path / "last.pth")
    with pytest.raises(ArtifactError, match=r"posterior\.embed\.weight"):
        import_published(tmp_path / "last.pth")
