"""Checkpoint importer of published vid2vid weights: both layouts, inferred settings, errors."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from hvp.errors import ArtifactError
from hvp.image.vid2vid.discriminators import ImageDiscriminator, TemporalDiscriminators
from hvp.image.vid2vid.published import import_published, main
from hvp.image.vid2vid.sequence import SequenceGenerator
from tests.image.small import N_CLASSES, small_generator, small_module

FOLDER = Path(os.environ.get("HVP_GOLDEN_DIR", "../shared/data/golden"))
FILES = sorted(FOLDER.glob("image_*.pt"))
PATCH: dict[str, Any] = {"ndf": 4, "n_layers": 2, "num_D": 2, "norm": "batch"}
NETWORKS = ("G0", "D", "D_T0", "D_T1")

_PUBLISHED_PARTS = {
    "label_branch": "model_down_seg",
    "image_branch": "model_down_img",
    "image_trunk.residual": "model_res_img",
    "image_trunk.up": "model_up_img",
    "image_out": "model_final_img",
    "flow_trunk.residual": "model_res_flow",
    "flow_trunk.up": "model_up_flow",
    "flow_out": "model_final_flow",
    "weight_out": "model_final_w",
    "foreground_branch": "indv_down",
    "foreground_trunk.residual": "indv_res",
    "foreground_trunk.up": "indv_up",
    "foreground_out": "indv_final",
}


def published_generator(generator: SequenceGenerator, n_blocks_local: int) -> dict[str, Any]:
    """{`G0`, `G1`, ...} under published names, which finer scales spell in their own way."""
    networks: dict[str, Any] = {}
    for name, tensor in generator.state_dict().items():
        match = re.fullmatch(r"scales\.(\d+)\.([a-z_.]+?)\.(\d+)\.(block\.)?(.+)", name)
        assert match is not None
        scale, part, index = int(match[1]), _PUBLISHED_PARTS[match[2]], int(match[3])
        if scale and "_res" in part:
            part = part.replace("_res", "_up")
        elif scale and "_up" in part:
            index += n_blocks_local
        block = "conv_block." if match[4] else ""
        networks.setdefault(f"G{scale}", {})[f"{part}.{index}.{block}{match[5]}"] = tensor
    return networks


def published_discriminator(state: dict[str, Tensor], num_D: int) -> dict[str, Tensor]:
    names = {}
    for name, tensor in state.items():
        _, scale, _, layer, rest = name.split(".", 4)
        names[f"scale{num_D - 1 - int(scale)}_layer{layer}.{rest}"] = tensor
    return names


def drawn(**changes: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A small checkpoint under published names, and its weights under ours."""
    generator = small_generator(**changes)
    image = ImageDiscriminator(n_classes=N_CLASSES, **PATCH)
    temporal = TemporalDiscriminators(2, 3, flow_scale=20.0, **PATCH)
    networks = published_generator(generator, changes.get("n_blocks_local", 1))
    networks["D"] = published_discriminator(image.state_dict(), PATCH["num_D"])
    for s, scale in enumerate(temporal.scales):
        networks[f"D_T{s}"] = published_discriminator(scale.state_dict(), PATCH["num_D"])
    parts = {
        "generator": generator,
        "objective.image_discriminator": image,
        "objective.temporal_discriminators": temporal,
    }
    return networks, {
        f"{prefix}.{name}": tensor
        for prefix, network in parts.items()
        for name, tensor in network.state_dict().items()
    }


def assert_equal_states(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


@pytest.mark.skipif(not FILES, reason=f"no image_*.pt in {FOLDER} (set HVP_GOLDEN_DIR)")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_settings_of_golden_checkpoints_are_inferred(path: Path, tmp_path: Path) -> None:
    golden = torch.load(path, weights_only=True)
    s = golden["settings"]
    assert main([str(path), str(tmp_path / "a.ckpt")]) == 0
    written = torch.load(tmp_path / "a.ckpt", weights_only=True)
    patch = {"ndf": s["ndf"], "n_layers": s["n_layers_D"], "num_D": s["num_D"], "norm": s["norm"]}
    generator = {
        "n_classes": s["label_nc"], "n_frames_G": s["n_frames_G"], "ngf": s["ngf"],
        "n_down": s["n_downsample_G"], "n_blocks": s["n_blocks"],
        "n_scales_spatial": s["n_scales_spatial"], "no_flow": s["no_flow"], "norm": s["norm"],
    }  # fmt: skip
    if s["n_scales_spatial"] > 1:
        generator["n_blocks_local"] = s["n_blocks_local"]
    if not s["fg"]:
        generator["foreground_classes"] = []
    assert written["model"] == {
        "name": "vid2vid",
        "version": 1,
        "settings": {
            "generator": generator,
            "image_discriminator": {"n_classes": s["label_nc"], **patch},
            "temporal_discriminators": {
                "n_scales_temporal": s["n_scales_temporal"], "n_frames_D": s["n_frames_D"], **patch
            },
        },
    }  # fmt: skip
    n_tensors = sum(len(state) for state in golden["checkpoint"].values())
    assert len(written["state_dict"]) == n_tensors


VARIANTS: dict[str, dict[str, Any]] = {
    "one scale": {},
    "two scales": {"n_scales_spatial": 2, "n_blocks_local": 2, "ngf": 8},
    "three downsamplings": {"n_down": 3, "n_blocks": 3, "ngf": 4},
    "no foreground": {"foreground_classes": []},
    "no flow": {"no_flow": True, "n_scales_spatial": 2, "ngf": 8},
    "two frames": {"n_frames_G": 2, "n_blocks": 1},
    "instance norm": {"norm": "instance"},
}


@pytest.mark.parametrize("changes", list(VARIANTS.values()), ids=list(VARIANTS))
@pytest.mark.parametrize("prefix", ["", "module."], ids=["bare", "module"])
def test_single_file_is_imported(tmp_path: Path, changes: dict[str, Any], prefix: str) -> None:
    networks, ours = drawn(**changes)
    named = {k: {f"{prefix}{name}": t for name, t in v.items()} for k, v in networks.items()}
    torch.save({**named, "epoch": 3, "D_f": {"x": torch.zeros(1)}}, tmp_path / "all.pth")
    published = import_published(tmp_path / "all.pth")
    assert_equal_states(published.state, ours)
    untold = {
        "n_blocks_local": 1, "foreground_classes": [2], "synthesise_first": False,
        "flow_multiplier": 20.0,
    }  # fmt: skip
    generator = SequenceGenerator(**{**untold, **published.settings["generator"]})
    generator.load_state_dict(
        {n.removeprefix("generator."): t for n, t in ours.items() if n.startswith("generator.")}
    )
    asked = {**published.settings["generator"], **changes}
    assert published.settings["generator"] == {k: asked[k] for k in published.settings["generator"]}


def write_directory(folder: Path, networks: dict[str, Any], *labels: str) -> None:
    for label in labels:
        for network, state in networks.items():
            torch.save(state, folder / f"{label}_net_{network}.pth")


@pytest.mark.parametrize(
    ("labels", "label"), [(["latest", "10"], None), (["10"], None), (["latest", "10"], "10")]
)
def test_directory_is_imported(tmp_path: Path, labels: list[str], label: str | None) -> None:
    networks, ours = drawn()
    other, _ = drawn(ngf=2)
    write_directory(tmp_path, other, *labels)
    write_directory(tmp_path, networks, label or labels[0])
    (tmp_path / "iter.txt").write_text("3,0\n")
    assert_equal_states(import_published(tmp_path, label).state, ours)


def test_directory_with_several_checkpoints_asks_which(tmp_path: Path) -> None:
    write_directory(tmp_path, drawn()[0], "10", "20")
    with pytest.raises(ArtifactError, match=r"no file latest_net_G0\.pth in it; .* 10, 20; choose"):
        import_published(tmp_path)
    with pytest.raises(ArtifactError, match=r"no file 30_net_G0\.pth"):
        import_published(tmp_path, "30")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="give the directory that vid2vid saved its networks"):
        import_published(tmp_path / "empty")


def test_generator_alone_is_imported_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    networks, ours = drawn()
    torch.save({"G0": networks["G0"]}, tmp_path / "generator.pth")
    assert main([str(tmp_path / "generator.pth"), str(tmp_path / "a.ckpt")]) == 0
    printed = capsys.readouterr().out
    for told in ("n_classes=4", "foreground_classes", "(D)", "D_T0"):
        assert told in printed
    written = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert set(written["model"]["settings"]) == {"generator"}
    expected = {name: tensor for name, tensor in ours.items() if name.startswith("generator.")}
    assert_equal_states(written["state_dict"], expected)


def test_written_checkpoint_is_one_of_the_lightning_module(tmp_path: Path) -> None:
    networks, ours = drawn()
    torch.save({k: {n: t.double() for n, t in v.items()} for k, v in networks.items()},
               tmp_path / "all.pth")  # fmt: skip
    assert main([str(tmp_path / "all.pth"), str(tmp_path / "a.ckpt")]) == 0
    module = small_module()
    d = {"ndf": 4, "n_layers": 2, "num_D": 2, "norm": "batch"}
    module.objective.image_discriminator = ImageDiscriminator(n_classes=N_CLASSES, **d)
    module.objective.temporal_discriminators = TemporalDiscriminators(2, 3, flow_scale=20.0, **d)
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    pl.utilities.migration.migrate_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    assert_equal_states(module.state_dict(), ours)


def test_buffers_that_depend_on_the_version_of_torch_are_no_obstacle(tmp_path: Path) -> None:
    networks, ours = drawn()
    old = {
        k: {n: t for n, t in v.items() if not n.endswith("num_batches_tracked")}
        for k, v in networks.items()
    }
    torch.save(old, tmp_path / "all.pth")
    assert_equal_states(import_published(tmp_path / "all.pth").state, ours)
    networks, ours = drawn(norm="instance")
    networks["G0"]["model_down_seg.2.running_mean"] = torch.zeros(4)
    torch.save(networks, tmp_path / "all.pth")
    assert_equal_states(import_published(tmp_path / "all.pth").state, ours)


def refused(tmp_path: Path, networks: dict[str, Any]) -> str:
    torch.save(networks, tmp_path / "all.pth")
    with pytest.raises(ArtifactError) as caught:
        import_published(tmp_path / "all.pth")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'all.pth'}: ")
    return message


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    networks, _ = drawn()
    assert "no state dict 'G0'" in refused(tmp_path, {"D": networks["D"]})
    assert "no state dict 'G0'" in refused(tmp_path, {"G0": "weights"})
    assert "only vid2vid's composite generator" in refused(
        tmp_path, {"G0": {"model.1.weight": torch.zeros(2, 2, 7, 7)}}
    )
    first = "model_down_seg.1.weight"
    wider = networks["G0"] | {first: torch.zeros(4, 13, 7, 7)}
    assert "13 channels of labels and 6 of previous frames" in refused(
        tmp_path, networks | {"G0": wider}
    )
    other = networks["G0"] | {first: torch.zeros(4, 15, 7, 7)}
    assert "D judges 7 channels, expected the 5 classes" in refused(
        tmp_path, networks | {"G0": other}
    )
    narrow = networks["G0"] | {"model_final_img.1.bias": torch.zeros(4)}
    assert "found shape (4,) for scales.0.image_out.1.bias, expected shape (3,)" in refused(
        tmp_path, networks | {"G0": narrow}
    )
    assert "unknown parameter 'x.1.weight'" in refused(
        tmp_path, networks | {"G0": networks["G0"] | {"x.1.weight": torch.zeros(1)}}
    )
    assert "D_T1; one between is missing" in refused(
        tmp_path, {k: networks[k] for k in ("G0", "D", "D_T1")}
    )
    assert "D_T0 judges 7 channels" in refused(tmp_path, networks | {"D_T0": networks["D"]})
    assert "found shape (4, 7, 4, 4) for scales.1" in refused(
        tmp_path, networks | {"D_T1": networks["D"]}
    )
    without = {n: t for n, t in networks["D"].items() if "layer0" not in n}
    assert "D, scale1_layer0.0.weight: found no such parameter" in refused(
        tmp_path, networks | {"D": without}
    )


def test_file_that_needs_code_is_refused(tmp_path: Path) -> None:
    write_directory(tmp_path, drawn()[0], "latest")
    torch.save(nn.Linear(1, 1), tmp_path / "latest_net_D.pth")
    with pytest.raises(ArtifactError, match=r"latest_net_D\.pth: holds torch\.nn.*weights_only"):
        import_published(tmp_path)


def test_command_line_reports_a_missing_file_without_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none.pth"), str(tmp_path / "out.ckpt")]) == 1
    assert "none.pth: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out.ckpt").exists()
