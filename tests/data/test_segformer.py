"""Pseudo-labels by a (tiny, random) SegFormer through the real library."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image

from hvp.data.readers.kitti import KITTIReader
from hvp.data.segformer.extraction import LabelExtractor
from hvp.data.segformer.network import Segmenter
from hvp.data.store import prepare
from hvp.errors import ConfigError, DataError
from hvp.labels import CITYSCAPES, DENSEPOSE
from tests.helpers.commands import composed
from tests.helpers.small_reader import write_labels
from tests.helpers.small_segformer import CITYSCAPES_NAMES, save_segformer

DRIVES = ("2011_09_26_drive_0001", "2011_09_26_drive_0005", "2011_09_26_drive_0070")
COMMIT = "0123456789abcdef" * 2 + "01234567"
SPLITS = {"val": DRIVES[1:2], "test": DRIVES[2:], "exclude": (), "view_size": (16, 24)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_segformer(tmp_path_factory.mktemp("models") / "segformer")


def noise(seed, size=(24, 40)):
    dice = np.random.default_rng(seed)
    coarse = dice.integers(0, 256, (6, 10, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size[1], size[0]))


def data_folder(root, drive):
    return root / drive[:10] / f"{drive}_sync" / "image_03" / "data"


@pytest.fixture
def raw(tmp_path):
    """Three drives of four frames without label maps."""
    root = tmp_path / "raw"
    for number, drive in enumerate(DRIVES):
        folder = data_folder(root, drive)
        folder.mkdir(parents=True)
        for frame in range(4):
            noise(10 * number + frame).save(folder / f"{frame:010d}.png")
    return root


def reader(root, model, folder, **options):
    of_model = {key: options.pop(key) for key in ("revision", "sha256") if key in options}
    batch_size = options.pop("batch_size", 3)
    extractor = LabelExtractor(str(model), folder, batch_size=batch_size, **of_model)
    return KITTIReader(root, **SPLITS, extract_labels=extractor, **options)


def maps(tree):
    return {p.relative_to(tree).as_posix(): p for p in sorted(tree.rglob("color_mask_*.png"))}


def test_label_maps_are_palette_pngs_of_train_ids_in_the_layout_of_the_dataset(
    raw, model, tmp_path
):
    source = reader(raw, model, tmp_path / "data")
    source.make_labels()
    made = maps(source.extracted_root)
    assert list(made) == [
        f"{drive[:10]}/{drive}_sync/image_03/data/color_mask_{n:010d}.png"
        for drive in DRIVES
        for n in range(4)
    ]
    assert source.extracted_root.parent == tmp_path / "data"
    segment = Segmenter(str(model), "main", CITYSCAPES)
    seen = set()
    for name, path in made.items():
        image = Image.open(path)
        assert image.mode == "P"
        assert image.getpalette()[: 19 * 3] == [c for rgb in CITYSCAPES.palette for c in rgb]
        ids = np.asarray(image)
        with Image.open(raw / name.replace("color_mask_", "")) as rgb:
            alone = segment([rgb.convert("RGB")])[0]
        assert ids.shape == (24, 40)
        assert (ids == alone).mean() > 0.99  # as in a batch of three
        seen.add(ids.tobytes())
    assert len(seen) > 6  # of different frames, different maps
    assert not list(raw.rglob("color_mask_*"))


def test_prepared_labels_are_those_made_and_can_be_given_by_hand(raw, model, tmp_path):
    source = reader(raw, model, tmp_path / "data")
    assert {r.n_frames for r in source.recordings()} == {4}
    made = prepare(source, tmp_path / "data", (16, 16), ["labels", "frames"])
    by_hand = KITTIReader(raw, **SPLITS, labels_root=source.extracted_root)
    given = prepare(by_hand, tmp_path / "data", (16, 16), ["labels"])
    for recording in made.recordings:
        path = f"{recording.name.replace('/', '%2F')}.npy"
        np.testing.assert_array_equal(
            np.load(made.folder / "labels" / path), np.load(given.folder / "labels" / path)
        )


def test_settings_name_the_model_by_its_files_and_need_no_label_map(raw, model, tmp_path):
    other = save_segformer(tmp_path / "other", seed=1)
    copied = shutil.copytree(model, tmp_path / "copied")
    before = reader(raw, model, tmp_path / "data").settings()
    after = reader(raw, copied, tmp_path / "elsewhere", batch_size=1)
    assert after.settings() == before
    assert reader(raw, other, tmp_path / "data").settings() != before
    assert not (tmp_path / "data").exists()
    after.make_labels()
    assert reader(raw, copied, tmp_path / "elsewhere").settings() == before
    raw.rename(tmp_path / "moved")
    assert reader(tmp_path / "moved", model, tmp_path / "data").settings() == before
    hub = [LabelExtractor("owner/name", "data", revision=40 * digit) for digit in "ab"]
    assert hub[0].digest != hub[1].digest


def test_what_is_made_stays_and_a_replaced_frame_is_made_again(raw, model, tmp_path):
    source = reader(raw, model, tmp_path / "data")
    source.make_labels()
    made = maps(source.extracted_root)
    times = {name: path.stat().st_mtime_ns for name, path in made.items()}
    noise(99, (28, 48)).save(data_folder(raw, DRIVES[0]) / f"{2:010d}.png")
    lost = list(made.values())[-1]
    lost.unlink()
    half_written = lost.with_name(f".{lost.stem}.01234567.tmp.png")
    half_written.write_bytes(b"half")
    reader(raw, model, tmp_path / "data").make_labels()
    again = {n for n, t in times.items() if made[n].stat().st_mtime_ns != t}
    assert again == {list(made)[2], list(made)[-1]}
    assert Image.open(list(made.values())[2]).size == (48, 28)
    assert not half_written.exists()


def test_killed_extraction_goes_on_where_it_was(model, tmp_path):
    drives = {**SPLITS, "exclude": []}
    root = tmp_path / "raw"
    for drive in DRIVES:
        data_folder(root, drive).mkdir(parents=True)
    for frame in range(300):
        noise(frame).save(data_folder(root, DRIVES[0]) / f"{frame:010d}.png")
    for drive in DRIVES[1:]:
        noise(0).save(data_folder(root, drive) / f"{0:010d}.png")
    script = (
        "from hvp.data.readers.kitti import KITTIReader\n"
        "from hvp.data.segformer.extraction import LabelExtractor\n"
        f"made_by = LabelExtractor({str(model)!r}, {str(tmp_path / 'data')!r}, batch_size=1)\n"
        f"KITTIReader({str(root)!r}, **{drives!r}, extract_labels=made_by).make_labels()\n"
    )
    source = reader(root, model, tmp_path / "data", batch_size=16)
    tree = source.extracted_root
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(maps(tree)) < 5:
            assert child.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline, "no label map appeared"
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    done = {path: path.stat().st_mtime_ns for path in maps(tree).values()}
    assert 5 <= len(done) < 302
    source.make_labels()
    assert len(maps(tree)) == 302
    assert all(path.stat().st_mtime_ns == then for path, then in done.items())
    for path in maps(tree).values():
        assert Image.open(path).convert("L").size == (40, 24)


def test_only_drives_without_any_label_map_get_them_made(raw, model, tmp_path):
    given = data_folder(raw, DRIVES[0])
    for frame in range(4):
        write_labels(given / f"color_mask_{frame:010d}.png", (24, 40), frame)
    source = reader(raw, model, tmp_path / "data")
    data = prepare(source, tmp_path / "data", (16, 24), ["labels"])
    assert len(maps(source.extracted_root)) == 8
    assert data.settings["extracted"]["recordings"] == [
        f"2011_09_26/{drive}_sync" for drive in DRIVES[1:]
    ]
    (given / f"color_mask_{1:010d}.png").unlink()
    with pytest.raises(DataError, match="frame 1 has RGB but no label map"):
        reader(raw, model, tmp_path / "data").recordings()


def test_a_labels_root_without_label_maps_is_not_taken_for_missing_ones(raw, model, tmp_path):
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="no label map of any sequence"):
        reader(raw, model, tmp_path / "data", labels_root=tmp_path / "labels").recordings()


def test_a_damaged_frame_is_named_and_what_came_before_is_kept(raw, model, tmp_path):
    bad = data_folder(raw, DRIVES[1]) / f"{3:010d}.png"
    bad.write_bytes(bad.read_bytes()[:50])
    source = reader(raw, model, tmp_path / "data", batch_size=1)
    with pytest.raises(DataError, match=r"drive_0005_sync.*0000000003\.png: cannot be decoded"):
        source.make_labels()
    assert not list(source.extracted_root.rglob("*0005_sync/*/*/color_mask_0000000003.png"))
    noise(3).save(bad)
    reader(raw, model, tmp_path / "data").make_labels()
    assert len(maps(source.extracted_root)) == 12


def test_classes_in_another_order_are_matched_by_name(model, tmp_path):
    turned = (*CITYSCAPES_NAMES[1:], CITYSCAPES_NAMES[0])
    renamed = save_segformer(tmp_path / "renamed", names=turned)
    by_position = Segmenter(str(model), "main", CITYSCAPES)([noise(1)])[0]
    by_name = Segmenter(str(renamed), "main", CITYSCAPES)([noise(1)])[0]
    np.testing.assert_array_equal(by_name, (by_position + 1) % 19)


def test_weights_of_the_hub_in_torch_format_are_read_as_tensors_only(model, tmp_path):
    from safetensors.torch import load_file

    old = shutil.copytree(model, tmp_path / "old")
    torch.save(load_file(old / "model.safetensors"), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    settings = {
        "feature_extractor_type": "SegformerFeatureExtractor", "size": 64, "do_normalize": True,
        "do_resize": True, "reduce_labels": False, "resample": 2,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    (old / "preprocessor_config.json").write_text(json.dumps(settings))
    expected = Segmenter(str(model), "main", CITYSCAPES)([noise(1)])[0]
    np.testing.assert_array_equal(Segmenter(str(old), "main", CITYSCAPES)([noise(1)])[0], expected)

    torch.save({"weight": Trap(tmp_path / "sprung")}, old / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Segmenter(str(old), "main", CITYSCAPES)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Pickle bomb: creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


def without(name):
    return lambda folder: (folder / name).unlink()


def as_bert(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def without_head(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    weights = {k: v for k, v in load_file(path).items() if not k.startswith("decode_head")}
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("config.json"), "cannot be loaded"),
        (without("preprocessor_config.json"), "cannot be loaded"),
        (without("model.safetensors"), "cannot be loaded"),
        (as_bert, "a model of type 'bert'"),
        (without_head, "weights without decode_head"),
    ],
)
def test_directories_that_hold_no_segmentation_model_are_refused(model, tmp_path, damage, message):
    folder = shutil.copytree(model, tmp_path / "model")
    damage(folder)
    with pytest.raises(ConfigError, match=message) as caught:
        Segmenter(str(folder), "main", CITYSCAPES)
    assert "dataset.extract_labels.model" in str(caught.value)


def test_another_number_of_classes_is_an_error_before_any_work(raw, tmp_path):
    model = save_segformer(tmp_path / "seven", n_classes=7)
    with pytest.raises(ConfigError, match=r"7 classes, but dataset\.classes=cityscapes has 19"):
        reader(raw, model, tmp_path / "data").make_labels()
    with pytest.raises(ConfigError, match=r"7 classes, but .* has 25"):
        Segmenter(str(model), "main", DENSEPOSE)


def test_a_model_that_cannot_be_had_is_named_with_what_to_do(raw, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"nowhere/model: no such directory"):
        reader(raw, tmp_path / "nowhere" / "model", tmp_path / "data").recordings()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"set dataset\.extract_labels\.model to its local dir"):
        reader(raw, "nobody/no-such-model", tmp_path / "data", revision=COMMIT).make_labels()
    with pytest.raises(ConfigError, match="batch_size=0"):
        LabelExtractor("owner/name", tmp_path, batch_size=0)


@pytest.fixture
def hub(model, tmp_path, monkeypatch):
    """A model in the cache of the hub's library, as downloaded; without network."""
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / COMMIT
    shutil.copytree(model, snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12]])
def test_a_hub_model_is_named_by_its_commit(raw, hub, tmp_path, revision):
    with pytest.raises(ConfigError, match=r"extract_labels\.revision=.*commit of owner/name"):
        reader(raw, "owner/name", tmp_path / "data", revision=revision).settings()


def test_the_weights_of_a_hub_model_are_checked_and_recorded(raw, hub, model, tmp_path):
    digest = hashlib.sha256((hub / "model.safetensors").read_bytes()).hexdigest()
    source = reader(raw, "owner/name", tmp_path / "data", revision=COMMIT, sha256=digest)
    source.make_labels()
    record = json.loads((source.extracted_root / "extraction.json").read_text())
    assert record["weights_sha256"] == digest
    assert record["model"] == "owner/name"
    given = reader(raw, model, tmp_path / "data")
    given.make_labels()
    made, again = maps(source.extracted_root), maps(given.extracted_root)
    assert made.keys() == again.keys()
    assert all(made[n].read_bytes() == again[n].read_bytes() for n in made)
    assert str(tmp_path) not in (given.extracted_root / "extraction.json").read_text()


def test_other_weights_under_the_same_commit_are_refused(raw, hub, tmp_path):
    digest = hashlib.sha256((hub / "model.safetensors").read_bytes()).hexdigest()
    source = reader(raw, "owner/name", tmp_path / "data", revision=COMMIT)
    source.make_labels()
    next(iter(maps(source.extracted_root).values())).unlink()
    other = save_segformer(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", hub / "model.safetensors")
    with pytest.raises(ConfigError, match=rf"weights of SHA-256 {digest}, owner/name"):
        source.make_labels()
    pinned = reader(raw, "owner/name", tmp_path / "new", revision=COMMIT, sha256=digest)
    with pytest.raises(ConfigError, match=rf"expected {digest} \(dataset\.extract_labels\.sha256"):
        pinned.make_labels()
    assert not maps(pinned.extracted_root)


def test_the_default_model_is_pinned():
    settings = composed("dataset=kitti").dataset.extract_labels
    extractor = LabelExtractor(settings.model, "data", settings.revision, settings.sha256)
    assert len(extractor.digest) == 64
    assert re.fullmatch(r"[0-9a-f]{64}", settings.sha256)
