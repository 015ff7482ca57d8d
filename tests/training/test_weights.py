"""Checkpoints rebuild their model, and nothing that a file names is called but a model's parts."""

import io
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hvp.artifacts.local import LocalStore
from hvp.config.settings import ModelSettings, model_settings
from hvp.errors import ArtifactError, ConfigError, HVPError
from hvp.image.vid2vid.published import import_published as import_image
from hvp.metrics.i3d_weights import PUBLISHED, load_i3d
from hvp.metrics.perceptual import load_lpips
from hvp.pretrained import load_pretrained
from hvp.structure.svg_lp.published import import_published as import_structure
from hvp.training.weights import model_recipe, read_checkpoint
from tests.helpers.commands import SMALL, composed, run_here

FILE = Path("some.ckpt")


@pytest.fixture(scope="module")
def model() -> ModelSettings:
    return model_settings(composed("stage=structure"), "structure")


def checkpoint(settings: dict[str, Any], name: str = "svg_lp", version: int = 1) -> dict[str, Any]:
    return {"model": {"name": name, "version": version, "settings": settings}, "state_dict": {}}


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "builtins.exec", "no.such"])
@pytest.mark.parametrize("nested", [False, True])
def test_what_is_no_part_of_a_model_is_refused_before_it_is_called(
    target: str, nested: bool, model: ModelSettings, tmp_path: Path
) -> None:
    hostile = {"_target_": target, "_args_": [f"touch {tmp_path / 'called'}"]}
    settings = {"network": {"deeper": [hostile]}} if nested else hostile
    with pytest.raises(ArtifactError, match="nothing of it was called"):
        model_recipe(checkpoint(settings), FILE, model, ())
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize(
    "record", [3, {"name": "svg_lp"}, {"name": 1, "version": 1, "settings": {}}, ["name"]]
)
def test_a_record_of_another_shape_is_refused(record: Any, model: ModelSettings) -> None:
    with pytest.raises(ArtifactError, match="not one of a model"):
        model_recipe({"model": record}, FILE, model, ())


def test_an_interpolation_in_a_file_is_refused(model: ModelSettings) -> None:
    with pytest.raises(ArtifactError, match="interpolation"):
        model_recipe(checkpoint({"lr": "${oc.env:HOME}"}), FILE, model, ())


def test_settings_of_the_file_win_and_what_it_lacks_comes_from_the_config(
    model: ModelSettings,
) -> None:
    recipe = model_recipe(checkpoint({"network": {"base_width": 5}}), FILE, model, ())
    assert recipe["network"]["base_width"] == 5
    assert recipe["network"]["rnn_width"] == model.module["network"]["rnn_width"]
    assert recipe["_target_"] == model.module["_target_"]


def test_settings_of_another_version_are_refused(model: ModelSettings) -> None:
    with pytest.raises(ArtifactError, match="version 7"):
        model_recipe(checkpoint({}, version=7), FILE, model, ())


def test_changed_settings_of_the_model_are_refused_but_not_its_prediction_options(
    model: ModelSettings,
) -> None:
    of_file = checkpoint({"lr": 0.5, "rollout_skip": "frozen"})
    with pytest.raises(ConfigError, match=r"model\.structure\.module\.lr=0\.002: the checkpoint"):
        model_recipe(of_file, FILE, model, ("model.structure.module.lr=2e-3",))
    assert model_recipe(of_file, FILE, model, ("seed=2",))["rollout_skip"] == "frozen"
    same = checkpoint({"rollout_skip": "frozen"})
    chosen = model_recipe(same, FILE, model, ("model.structure.module.rollout_skip=latest",))
    assert chosen["rollout_skip"] == "latest"


def test_a_file_that_is_no_checkpoint_ends_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ArtifactError, match="not a checkpoint that can be read"):
        read_checkpoint(path)
    torch.save({"weights": 1}, path)
    with pytest.raises(ArtifactError, match="holds no state_dict"):
        read_checkpoint(path)


def test_a_checkpoint_of_another_context_or_size_says_so_before_it_predicts(tmp_path: Path) -> None:
    run_here(*SMALL, "stage=structure", "predict=false", work_dir=tmp_path)
    again = (
        *(setting for setting in SMALL if not setting.startswith("dataset.rules.n_past")),
        "stage=structure", "fit=false", "checkpoint=structure-synthetic-checkpoint:v0",
    )  # fmt: skip
    for other, key in (
        (("dataset.rules.n_past=2",), "n_past"),
        (("dataset.rules.n_past=3", "dataset.size=[128,128]"), "size"),
    ):
        with pytest.raises(SystemExit, match=key):
            run_here(*again, *other, work_dir=tmp_path)
    store = LocalStore(tmp_path / "artifacts")
    assert not (store.root / "structure-synthetic").exists()


def test_a_checkpoint_of_other_classes_or_another_kind_is_refused(tmp_path: Path) -> None:
    run_here(*SMALL, "stage=structure", "predict=false", work_dir=tmp_path)
    given = ("fit=false", "checkpoint=structure-synthetic-checkpoint:v0")
    walker = ("dataset=walker", "dataset.rules.n_past=3", "dataset.datamodule.n_train=1",
              "dataset.datamodule.n_val=1", "dataset.datamodule.n_test=1")  # fmt: skip
    with pytest.raises(SystemExit, match="was trained on 19 classes"):
        run_here("trainer=cpu", *walker, "stage=structure", *given, work_dir=tmp_path)
    with pytest.raises(SystemExit, match="predicts labels, not frames"):
        run_here(*SMALL, "stage=svg_rgb", *given, work_dir=tmp_path)


def test_settings_that_unfold_without_end_are_refused_at_once(model: ModelSettings) -> None:
    endless: list[Any] = []
    endless.append(endless)
    doubled: Any = 1
    for _ in range(60):
        doubled = [doubled, doubled]
    for value in (endless, doubled):
        with pytest.raises(ArtifactError, match="unfold to more than"):
            model_recipe(checkpoint({"network": value}), FILE, model, ())


class _Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def hostile(path: Path, kind: str, seed: int) -> None:
    """Write a file that is no checkpoint of ours."""
    draw = random.Random(seed)
    weights = {"w": torch.randn(4, generator=torch.Generator().manual_seed(seed))}
    if kind == "random":
        path.write_bytes(draw.randbytes(draw.randrange(1, 4000)))
    elif kind == "code":
        torch.save({"state_dict": weights, "x": _Runs(path.with_name("ran"))}, path)
    elif kind == "list":
        torch.save([1, weights], path)
    elif kind == "no tensors":
        torch.save({"state_dict": {"w": [1, 2]}}, path)
    elif kind == "empty":
        path.touch()
    else:
        torch.save({"state_dict": weights}, path)
        data = path.read_bytes()
        if kind == "truncated":
            path.write_bytes(data[: draw.randrange(len(data) - 30)])
        else:
            with (
                zipfile.ZipFile(io.BytesIO(data)) as archive,
                zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
            ):
                for name in archive.namelist():
                    bomb.writestr(name, bytes(2**24) if "/data/" in name else archive.read(name))


KINDS = ("random", "code", "list", "no tensors", "empty", "truncated", "bomb")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "load",
    [
        read_checkpoint,
        import_structure,
        import_image,
        lambda path: load_pretrained(str(path), PUBLISHED, "key"),
        lambda path: load_i3d(str(path), "key"),
        lambda path: load_i3d(f"torchscript:{path}", "key"),
        lambda path: load_lpips("alex", str(path), "key"),
    ],
    ids=["checkpoint", "structure", "image", "pretrained", "i3d", "torchscript", "lpips"],
)
def test_a_foreign_file_is_one_sentence_and_runs_nothing(
    load: Callable[[Path], object], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "foreign.ckpt"
    hostile(path, kind, seed=len(kind))
    with pytest.raises(HVPError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
