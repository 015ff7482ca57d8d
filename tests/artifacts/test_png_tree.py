"""Prediction sets as trees of palette PNGs, there and back."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hvp.artifacts import png_tree
from hvp.artifacts.png_tree import export_png_tree, import_png_tree, main
from hvp.artifacts.predictions import PredictedClip, PredictionSet, PredictionSetWriter
from hvp.clips import ClipId
from hvp.errors import ArtifactError
from hvp.labels import CITYSCAPES
from tests.artifacts.sets_oracle import predicted_clips, prediction_header, samples
from tests.helpers.raw_png import PALETTE, write_png

IMPORT = {"dataset": "synthetic", "label_space": CITYSCAPES, "context": 2}


@pytest.fixture
def predictions(tmp_path: Path) -> PredictionSet:
    return write_set(tmp_path / "set", predicted_clips())


def write_set(directory: Path, clips: list[PredictedClip]) -> PredictionSet:
    writer = PredictionSetWriter(directory, prediction_header(), clips)
    for clip in clips:
        writer.write(clip, samples(clip))
    writer.close()
    return PredictionSet(directory)


def truth(clip: PredictedClip) -> np.ndarray | None:
    """Ground truth that ends before the horizon, and none at all for one clip."""
    return None if clip.clip.recording == "a/b/c" else samples(clip)[0, :-1]


def test_pictures_hold_label_ids_and_show_the_palette(tmp_path, predictions):
    export_png_tree(predictions, tmp_path / "tree", truth)
    clip = predictions.clips[1]  # frames 5, 7, ...
    folder = tmp_path / "tree" / "batch_00002" / "sample_00003" / clip.clip.recording
    names = [f"color_mask_{5 + 2 * t:010d}.png" for t in range(clip.length)]
    assert sorted(path.name for path in folder.iterdir()) == names
    with Image.open(folder / names[4]) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), samples(clip)[2, 4])
        rgb = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(rgb, CITYSCAPES.colourise(samples(clip)[2, 4]))


def test_sample_zero_is_the_ground_truth_as_far_as_it_goes(tmp_path, predictions):
    export_png_tree(predictions, tmp_path / "tree", truth)
    clip = predictions.clips[0]
    folder = tmp_path / "tree" / "batch_00001" / "sample_00000" / clip.clip.recording
    assert len(list(folder.iterdir())) == clip.length - 1
    with Image.open(folder / "color_mask_0000000004.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), samples(clip)[0, 2])
    assert not (tmp_path / "tree" / "batch_00004" / "sample_00000").exists()
    export_png_tree(predictions, tmp_path / "without")
    assert not list((tmp_path / "without").glob("*/sample_00000"))


def test_a_tree_comes_back_as_the_set_it_was(tmp_path, predictions):
    export_png_tree(predictions, tmp_path / "tree", truth)
    imported = import_png_tree(tmp_path / "tree", tmp_path / "imported", **IMPORT)
    assert imported.clips == predictions.clips
    assert imported.header.size == predictions.header.size
    assert imported.header.frame_step == 2
    for clip, maps in imported:
        np.testing.assert_array_equal(maps, predictions.samples(clip))


def test_the_command_line_exports_and_imports(tmp_path, predictions, capsys):
    tree, copy = str(tmp_path / "tree"), str(tmp_path / "copy")
    main(["export", str(tmp_path / "set"), tree])
    main(["import", tree, copy, "--dataset", "d", "--labels", "cityscapes", "--context", "2"])
    assert PredictionSet(tmp_path / "copy").clips == predictions.clips
    with pytest.raises(SystemExit, match=r"error: .*tree: exists already"):
        main(["export", str(tmp_path / "set"), tree])


def test_a_failed_export_leaves_no_tree(tmp_path, predictions):
    predictions.path(predictions.clips[2]).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="damaged file"):
        export_png_tree(predictions, tmp_path / "trees" / "tree")
    assert not list((tmp_path / "trees").iterdir())


def test_a_recording_cannot_lead_out_of_the_tree(tmp_path):
    outside = write_set(tmp_path / "set", [PredictedClip(ClipId("../../../x", 0, 2), 2, 4, 3)])
    with pytest.raises(ArtifactError, match="leads out of the tree"):
        export_png_tree(outside, tmp_path / "tree")


def test_trees_that_are_not_a_set_are_refused(tmp_path, predictions):
    with pytest.raises(ArtifactError, match=r"no batch_\*/sample_00001"):
        import_png_tree(tmp_path, tmp_path / "imported", **IMPORT)
    tree = tmp_path / "tree"
    export_png_tree(predictions, tree)
    with pytest.raises(ArtifactError, match="6 frames cannot begin with 6 true ones"):
        import_png_tree(tree, tmp_path / "imported", **{**IMPORT, "context": 6})
    folder = tree / "batch_00001" / "sample_00002" / predictions.clips[0].clip.recording
    picture = folder / "color_mask_0000000006.png"

    Image.new("RGB", (15, 12)).save(picture)
    with pytest.raises(
        ArtifactError, match=r"0000000006\.png: a label map must be .* found PNG of mode RGB"
    ):
        import_png_tree(tree, tmp_path / "imported", **IMPORT)
    Image.new("L", (15, 13)).save(picture)
    with pytest.raises(
        ArtifactError, match=r"0000000006\.png: expected height and width \(12, 15\)"
    ):
        import_png_tree(tree, tmp_path / "imported", **IMPORT)
    picture.write_bytes(b"not a picture")
    with pytest.raises(ArtifactError, match=r"0000000006\.png: cannot be decoded"):
        import_png_tree(tree, tmp_path / "imported", **IMPORT)
    picture.unlink()
    with pytest.raises(ArtifactError, match=r"sample_00002.*expected 6 pictures.*found 5"):
        import_png_tree(tree, tmp_path / "imported", **IMPORT)


def test_numbers_of_any_width_are_imported_in_order(tmp_path):
    colours, order = np.array(CITYSCAPES.palette), np.random.default_rng(0).permutation(19)
    maps = np.random.default_rng(1).integers(0, 19, (2, 11, 12, 6, 7))  # batches, samples, frames
    maps[:, :, :2] = maps[:, :1, :2]  # the true context
    for batch, sample, frame in np.ndindex(maps.shape[:3]):
        folder = tmp_path / f"tree/batch_{batch + 9}/sample_{sample + 1}/drive_{batch}"
        numbered = np.argsort(order)[maps[batch, sample, frame]]
        write_png(folder / f"color_mask_{frame}.png", numbered, PALETTE, palette=colours[order])
    imported = import_png_tree(tmp_path / "tree", tmp_path / "imported", **IMPORT)
    for (_, found), expected in zip(imported, maps, strict=True):
        np.testing.assert_array_equal(found, expected)
    write_png(folder / "color_mask_07.png", numbered, PALETTE, palette=colours[order])
    with pytest.raises(ArtifactError, match=r"color_mask_0?7\.png: frame 7 is there twice"):
        import_png_tree(tmp_path / "tree", tmp_path / "again", **IMPORT)


def claim_size(path: Path, width: int, height: int) -> None:
    """Give a PNG a header of another size, with a right checksum."""
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


@pytest.mark.parametrize("first", [True, False])
def test_sizes_that_pictures_claim_are_checked_before_they_are_decoded(
    tmp_path, predictions, monkeypatch, first
):
    tree = tmp_path / "tree"
    export_png_tree(predictions, tree)
    picture = sorted(tree.rglob("*.png"))[0 if first else 1]
    claim_size(picture, 9_001, 9_000)  # what Pillow would decode without a word
    decoded = []
    opened = png_tree.open_labels
    monkeypatch.setattr(png_tree, "open_labels", lambda p, s: decoded.append(p) or opened(p, s))
    with pytest.raises(ArtifactError, match=rf"{picture.name}: .*(9001|9000)"):
        import_png_tree(tree, tmp_path / "imported", **IMPORT)
    assert picture not in decoded
    picture.unlink()
    os.mkfifo(picture)
    with pytest.raises(ArtifactError, match=rf"{picture.name}: .*not a regular file"):
        import_png_tree(tree, tmp_path / "again", **IMPORT)
