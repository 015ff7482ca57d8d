"""Paths in published settings and sentences."""

from pathlib import Path

import pytest

from hvp.machine_paths import text_without_machine_paths, without_machine_paths

WORK = Path("/home/ann/my work")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/home/ann/my work/outputs/a b.ckpt", "outputs/a b.ckpt"),
        ("/home/ann/my work", "."),
        ("/data/kitti raw", ".../kitti raw"),
        (Path("/data/kitti"), ".../kitti"),
        ("data_root=/data/kitti raw", "data_root=.../kitti raw"),
        ("evaluate.predictions=folder:/mnt/x/foreign", "evaluate.predictions=folder:.../foreign"),
        ("evaluate.compare=[/mnt/a.json,/mnt/b.json]", "evaluate.compare=[.../a.json,.../b.json]"),
        ({"a": ["/x"], "b": ("/y/z", 3, None)}, {"a": [".../x"], "b": (".../z", 3, None)}),
        *((same, same) for same in (
            "nvidia/segformer-b0", "https://example.org/a/b", "hvp.data.x", "outputs/x", "a / b",
            "km/h", "20/40 frames", "~/kitti", "folder:pred/a",
        )),
    ],
)  # fmt: skip
def test_settings_name_no_path_of_the_machine(value, shown):
    assert without_machine_paths(value, WORK) == shown


def test_sentences_and_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "evaluate.i3d=/mnt/i3d.pt: no such file; give a path"
    shown = "evaluate.i3d=.../i3d.pt: no such file; give a path"
    assert text_without_machine_paths(text, WORK) == shown
    text = (
        f"{tmp_path}/work/c.ckpt is not that of x:v1; run python run.py data_root=/data/kitti "
        f"'checkpoint={tmp_path}/work/a/b.ckpt' (see https://example.org/help)."
    )
    assert text_without_machine_paths(text, Path("work")) == (
        "c.ckpt is not that of x:v1; run python run.py data_root=.../kitti "
        "'checkpoint=a/b.ckpt' (see https://example.org/help)."
    )
