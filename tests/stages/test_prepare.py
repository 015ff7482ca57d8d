"""`stage=prepare` on a raw tree: what it prints and what a second run does."""

import json
import re
from pathlib import Path

import pytest
from omegaconf import DictConfig

from hvp.config.build import build_datamodule
from hvp.config.settings import dataset_settings
from hvp.errors import DataError
from hvp.stages import prepare
from hvp.stages.pipeline import Pipeline
from tests.helpers.commands import SMALL_MODELS, composed, run_here
from tests.helpers.raw_trees import folder_tree, kitti_tree
from tests.helpers.small_reader import write_rgb
from tests.helpers.small_segformer import save_segformer


def rows(printed: str) -> list[list[str]]:
    """Cells of the printed tables."""
    lines = [line for line in printed.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_prepare_prints_what_was_found_and_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = composed(
        "stage=prepare", "dataset=kitti", f"data_root={kitti_tree(tmp_path / 'raw')}",
        f"work_dir={tmp_path / 'work'}", "dataset.datamodule.view_size=[12,16]",
        "dataset.rules.n_past=2", "dataset.rules.n_future=2", "dataset.rules.n_eval=4",
        "dataset.rules.step=1", "dataset.rules.min_eval_clips=1",
    )  # fmt: skip
    monkeypatch.setattr(prepare.console, "width", 200)
    prepare.Prepare(config).run()
    printed = capsys.readouterr().out
    assert rows(printed) == [
        ["train", "3", "13", "5", "4", "1"],
        ["val", "1", "5", "2", "4", "0"],
        ["test", "1", "7", "1", "6", "0"],
        [
            "excluded drive (dataset.datamodule.exclude)", "2", "7",
            "2011_09_28/2011_09_28_drive_0054_sync",
        ],
    ]  # fmt: skip
    assert "prepare kitti 64x64" in printed
    prepare.Prepare(config).run()
    again = capsys.readouterr().out
    assert rows(again) == rows(printed)
    assert "prepare kitti 64x64" not in again


def test_names_with_brackets_and_control_characters_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"first": "[bold]drive[/bold]", "reason": "a\x1b[2Jb\nc"}
    prepare._print_table("dataset [x]", [names])
    printed = capsys.readouterr().out
    assert "dataset [x]" in printed
    assert rows(printed) == [["[bold]drive[/bold]", r"a\x1b[2Jb\nc"]]


def of_folder(root: Path, *overrides: str) -> DictConfig:
    """`stage=prepare` of the sequences in `root`, a clip of 2 frames."""
    return composed(
        "stage=prepare", "dataset=folder", f"data_root={root}", f"work_dir={root.parent / 'work'}",
        "dataset.rules.n_past=1", "dataset.rules.n_future=1", "dataset.rules.n_eval=2",
        "dataset.rules.min_eval_clips=1", *overrides,
    )  # fmt: skip


def test_what_packing_takes_is_said_before_label_maps_are_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_tree(tmp_path / "raw")
    for file in (root / "b" / "label").iterdir():
        file.unlink()
    model = save_segformer(tmp_path / "model")
    config = of_folder(root, f"dataset.extract_labels.model={model}")
    prepare.Prepare(config).run()
    printed = " ".join(capsys.readouterr().out.split())
    # 30 frames of 64x64, RGB (and label maps): 30 * 4 * 64 * 64 bytes.
    stated = printed.index("prepare folder 64x64: 30 frames of 4 recordings take 0.00 GiB in")
    assert "GiB are free" in printed
    assert stated < printed.index("folder: 10 frames have no label map; making them")


def test_what_no_rule_takes_is_printed_as_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_tree(tmp_path / "raw")
    write_rgb(root / "b" / "previews" / "1.png", (4, 4))
    write_rgb(root / "b" / "previews" / "2.png", (4, 4))
    monkeypatch.setattr(prepare.console, "width", 200)
    prepare.Prepare(of_folder(root)).run()
    printed = rows(capsys.readouterr().out)
    assert ["*.png that no rule takes", "2", "2", "b/previews/1.png"] in printed


@pytest.mark.parametrize("stage", [prepare.Prepare, Pipeline])
def test_some_missing_rgb_is_not_taken_for_none(tmp_path: Path, stage: type) -> None:
    root = folder_tree(tmp_path / "raw")
    (root / "c" / "rgb").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"1 of 4 recordings have no RGB \(c\);.*exclude.*videos"):
        stage(of_folder(root)).run()
    assert not (tmp_path / "work" / "data").exists()
    prepare.Prepare(of_folder(root, "videos=null")).run()
    (folder,) = (tmp_path / "work" / "data").glob("folder-*/64x64")
    assert [path.name for path in folder.glob("*/manifest.json")] == ["manifest.json"]
    prepare.Prepare(of_folder(root, "dataset.datamodule.exclude=[c]")).run()
    assert len(list((tmp_path / "work" / "data").glob("folder-*/64x64/frames"))) == 1


def test_a_pipeline_does_not_take_rgb_of_other_names_for_none(tmp_path: Path) -> None:
    root = folder_tree(tmp_path / "raw")
    for name in ("a", "b", "c"):
        (root / name / "rgb").rename(root / name / "frames")
    with pytest.raises(DataError, match=r"no recording has RGB, but .* 30 files .*a/frames/0000"):
        Pipeline(of_folder(root)).run()


@pytest.mark.parametrize(
    ("overrides", "split", "longest"),
    [
        ("dataset.rules.n_future=18", "train", "b, has 10"),
        ("dataset.rules.n_future=4", "val", "a-000008, has 2"),
        ("dataset.rules.eval_offset=9", "test", "c, has 10"),
    ],
)
def test_a_split_too_short_for_a_clip_ends_before_packing(
    tmp_path: Path, overrides: str, split: str, longest: str
) -> None:
    root = folder_tree(tmp_path / "raw")
    with pytest.raises(DataError, match=rf"split '{split}'.*{longest}; lower dataset\.rules"):
        prepare.Prepare(of_folder(root, overrides)).run()
    assert not list((tmp_path / "work").rglob("*.npy"))


def test_too_few_clips_for_a_batch_end_stage_one_before_packing(tmp_path: Path) -> None:
    root = folder_tree(tmp_path / "raw")
    rules = ("dataset.rules.n_past=1", "dataset.rules.n_future=1", "dataset.rules.n_eval=2")
    with pytest.raises(SystemExit, match=r"16 training clips of 2 frames, batch_size=17"):
        run_here(
            *SMALL_MODELS, "stage=structure", "dataset=folder", f"data_root={root}", *rules,
            "dataset.rules.min_eval_clips=1", "model.structure.batch_size=17",
            work_dir=tmp_path / "work",
        )  # fmt: skip
    assert not list((tmp_path / "work").rglob("*.npy"))


def test_prepare_makes_again_what_is_damaged_and_other_stages_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = of_folder(folder_tree(tmp_path / "raw"))
    monkeypatch.setattr(prepare.console, "width", 1000)
    prepare.Prepare(config).run()
    (store,) = (tmp_path / "work" / "data").glob("folder-*/64x64")
    array, manifest = store / "frames" / "b.npy", store / "labels" / "manifest.json"
    whole = {path: path.read_bytes() for path in (array, manifest)}
    (published,) = (tmp_path / "work").rglob("clips-folder/**/manifest.json")
    own = json.loads(whole[manifest])
    del own["digest"]
    assert json.loads(published.read_text()) == own

    for path in (array, manifest):
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        datamodule = build_datamodule(dataset_settings(config), ("labels", "frames"), "image")
        with pytest.raises(DataError, match=rf"{path.name}: .*run\.py stage=prepare"):
            datamodule.prepare_data()
    capsys.readouterr()
    prepare.Prepare(config).run()
    printed = capsys.readouterr().out
    for path in (array, manifest):
        assert re.search(rf"^{path}: .*; it is made again$", printed, re.MULTILINE)
    assert printed.count("made again") == 2
    assert {path: path.read_bytes() for path in whole} == whole
