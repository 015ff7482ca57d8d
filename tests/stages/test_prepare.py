"""`stage=prepare` on a raw tree: what it prints and what a second run does."""

from pathlib import Path

import pytest

from hvp.stages import prepare
from tests.helpers.commands import composed
from tests.helpers.raw_trees import kitti_tree


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
