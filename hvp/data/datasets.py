"""LightningDataModules, one per dataset.

    from hvp.data.datasets import CityscapesDataModule
    from hvp.data.rules import ClipRules

    data = CityscapesDataModule(
        root="/data/cityscapes",
        stored_size=(256, 512),
        rules=ClipRules(n_past=4, n_future=6, n_eval=100, step=3, eval_offset=1, eval_stride=30,
                        min_eval_clips=1),
        data_dir="data",
        size=(128, 256),
        batch_size=8,
        num_workers=4,
    )
    Trainer(reload_dataloaders_every_n_epochs=1).fit(model, data)

The fields of a class are those of its raw data; `hvp.data.datamodule.ClipDataModule` has those of
all datasets. The published values of every field stand in conf/dataset/
(splits, exclusions, clip rules, sizes), not here; docs/datasets.md explains them.

To add a dataset: a reader (`hvp.data.readers.base.Reader`), a class here, a file in conf/dataset/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from hvp.data.datamodule import ClipDataModule
from hvp.data.readers.cityscapes import CityscapesReader
from hvp.data.readers.densepose import DensePoseReader
from hvp.data.readers.folder import FolderReader
from hvp.data.readers.human36m import Human36MReader
from hvp.data.readers.kitti import KITTIReader
from hvp.data.readers.worlds import AvenueReader, DrivingWorldReader, WalkerWorldReader, WorldReader
from hvp.data.segformer.extraction import LabelExtractor
from hvp.errors import ConfigError
from hvp.labels import CITYSCAPES, DENSEPOSE
from hvp.values import NAMES, SIZE, TEXT, Kind, Rule, check_rules, number, or_null, shown, whole

_SOME_NAMES = Kind(
    f"{NAMES.expected}, at least one",
    lambda value: NAMES.accepts(value) and len(value) > 0,
    advice=NAMES.advice,
)
_PAIRS = Kind(
    "a list of pairs of names [first, last]",
    lambda value: (
        isinstance(value, (list, tuple))
        and all(NAMES.accepts(pair) and len(pair) == 2 for pair in value)
    ),
    advice='as in \'{key}=[["2011_09_28_drive_0054","2011_09_28_drive_0220"]]\', [] for none',
)


def _check_apart(settings: Mapping[str, Any], key: str, split: str, other: str) -> None:
    """What is tested must not be learnt from or validated on."""
    both = sorted(set(settings.get(split) or ()) & set(settings.get(other) or ()))
    if both:
        raise ConfigError(
            f"{key}.{split}={shown(settings[split])}: {both[0]} is in {key}.{other} too; take it "
            "out of one of them"
        )


@dataclass(kw_only=True, eq=False, repr=False)
class KITTIDataModule(ClipDataModule):
    """KITTI raw, synced and rectified, with semantic label maps of the 19 Cityscapes classes."""

    root: str | Path
    """Folder of KITTI raw, with one folder per date."""
    labels_root: str | Path | None = None
    """Folder of the label maps, the same tree; None = also `root`."""
    val: Sequence[str]
    """Validation drives, as `2011_09_26_drive_0005`."""
    test: Sequence[str]
    """Test drives; the rest is the training split."""
    exclude: Sequence[Sequence[str]]
    """Excluded ranges of drives, as (first, last) pairs, both included."""
    view_size: Sequence[int]
    """Images are scaled to this height, center-cropped to this width, then resized to `size`."""
    camera: str = "image_03"
    """Folder name of the camera."""
    extract_labels: LabelExtractor | None = None
    """Pseudo-labels for drives without label maps; None = label maps must be given."""

    label_space_name = CITYSCAPES.name

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], key: str) -> None:
        """See `ClipDataModule`."""
        rules = {
            "val": Rule(_SOME_NAMES, "drives"),
            "test": Rule(_SOME_NAMES, "drives"),
            "exclude": Rule(_PAIRS, "ranges of drives"),
            "view_size": Rule(SIZE),
            "camera": Rule(TEXT, "a folder name"),
        }
        check_rules(settings, rules, key)
        _check_apart(settings, key, "test", "val")

    def make_reader(self) -> KITTIReader:
        """Build the reader of KITTI raw."""
        return KITTIReader(
            self.root,
            val=self.val,
            test=self.test,
            exclude=self.exclude,
            view_size=self.view_size,
            labels_root=self.labels_root,
            camera=self.camera,
            extract_labels=self.extract_labels,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class CityscapesDataModule(ClipDataModule):
    """Cityscapes sequences of 30 frames with dense semantic label maps."""

    root: str | Path
    """Folder that holds `leftImg8bit_sequence`."""
    labels_root: str | Path | None = None
    """Folder of the label maps, the same tree; None = also `root`."""
    stored_size: Sequence[int]
    """Images are resized to this height and width first, then to `size`."""
    evaluate_on: Literal["val", "test"] = "val"
    """Official split to use as test split."""
    gt_fine: Literal["none", "test", "all"] = "none"
    """Splits in which gtFine annotations replace the dense label map of their frame."""
    extract_labels: LabelExtractor | None = None
    """Pseudo-labels for sequences without label maps; None = label maps must be given."""
    exclude: Sequence[str] | None = None
    """Sequences to leave out, by name or pattern (`hvp.data.readers.exclusion`)."""

    label_space_name = CITYSCAPES.name

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], key: str) -> None:
        """See `ClipDataModule`."""
        rules = {
            "stored_size": Rule(SIZE),
            "exclude": Rule(or_null(NAMES), "sequences"),
        }
        check_rules(settings, rules, key)
        if settings["gt_fine"] == "test" and settings["evaluate_on"] == "test":
            raise ConfigError(
                f"{key}.gt_fine=test with {key}.evaluate_on=test: the published gtFine of the test "
                "cities is blank; use evaluate_on=val or gt_fine=none"
            )

    def make_reader(self) -> CityscapesReader:
        """Build the reader of Cityscapes sequences."""
        return CityscapesReader(
            self.root,
            self.stored_size,
            labels_root=self.labels_root,
            evaluate_on=self.evaluate_on,
            gt_fine=self.gt_fine,
            extract_labels=self.extract_labels,
            exclude=self.exclude or (),
        )


@dataclass(kw_only=True, eq=False, repr=False)
class DensePoseDataModule(ClipDataModule):
    """Videos of people as DensePose body part maps, 25 classes."""

    root: str | Path
    """Folder with `split.json` and the IUV images."""
    frames_root: str | Path | None = None
    """Folder of the RGB frames, the same tree; None = also `root`."""
    exclude: Sequence[str] | None = None
    """Clips to leave out, by name or pattern (`hvp.data.readers.exclusion`)."""

    label_space_name = DENSEPOSE.name

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], key: str) -> None:
        """See `ClipDataModule`."""
        check_rules(settings, {"exclude": Rule(or_null(NAMES), "clips")}, key)

    def make_reader(self) -> DensePoseReader:
        """Build the reader of DensePose part maps."""
        return DensePoseReader(self.root, self.frames_root, exclude=self.exclude or ())


@dataclass(kw_only=True, eq=False, repr=False)
class Human36MDataModule(ClipDataModule):
    """Human3.6M, or any 2D joints in its order, as body part maps of 25 classes."""

    root: str | Path
    """Folder of the subjects."""
    joints: str | Path | None = None
    """Joint file (`.npz`), below `root` or anywhere; None = the `.cdf` files."""
    train: Sequence[str]
    """Training subjects, less those of `val`."""
    val: Sequence[str]
    """Validation subjects; without any, validation runs on test clips."""
    test: Sequence[str]
    """Test subjects."""
    cameras: Sequence[str]
    """Camera numbers to read, in the order of the VideoPose3D file."""
    exclude: Sequence[str] = ()
    """Excluded takes, as `S11/Directions.54138969` or, for all cameras, `S11/Directions`."""
    margin: float
    """Margin of the crop box around the person, as a fraction of its side."""

    label_space_name = DENSEPOSE.name

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], key: str) -> None:
        """See `ClipDataModule`."""
        rules = {
            "train": Rule(_SOME_NAMES, "subjects"),
            "val": Rule(NAMES, "subjects"),
            "test": Rule(_SOME_NAMES, "subjects"),
            "cameras": Rule(_SOME_NAMES, "cameras"),
            "exclude": Rule(NAMES, "takes"),
            "joints": Rule(or_null(TEXT), "an .npz file"),
            "margin": Rule(number(0, below=0.5), "share of the square"),
        }
        check_rules(settings, rules, key)
        for other in ("train", "val"):
            _check_apart(settings, key, "test", other)

    def make_reader(self) -> Human36MReader:
        """Build the reader of Human3.6M."""
        return Human36MReader(
            self.root,
            train=self.train,
            val=self.val,
            test=self.test,
            cameras=self.cameras,
            exclude=self.exclude,
            margin=self.margin,
            joints=self.joints,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class FolderDataModule(ClipDataModule):
    """Custom dataset: sequences of label maps, RGB frames, or both, in folders or videos."""

    root: str | Path
    """Folder with one folder (`label/*.png`, `rgb/*.png`), or one video, per sequence."""
    labels_root: str | Path | None = None
    """Folder of the label maps, the same tree; None = also `root`."""
    classes: str | Path = "cityscapes"
    """Class file, or name of a built-in label space (`hvp.labels.load_label_space`)."""
    val: Sequence[str] | None = None
    """Validation sequences by name; None = chosen by `hvp.data.readers.folder`."""
    test: Sequence[str] | None = None
    """Test sequences by name; None = the last one."""
    name: str = "folder"
    """Dataset name in the clip store and in reports."""
    extract_labels: LabelExtractor | None = None
    """Pseudo-labels for sequences without label maps; None = label maps must be given."""
    exclude: Sequence[str] | None = None
    """Sequences to leave out, by name or pattern (`hvp.data.readers.exclusion`)."""

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], key: str) -> None:
        """See `ClipDataModule`."""
        rules = {
            "val": Rule(or_null(_SOME_NAMES), "sequences"),
            "test": Rule(or_null(_SOME_NAMES), "sequences"),
            "exclude": Rule(or_null(NAMES), "sequences"),
        }
        check_rules(settings, rules, key)
        _check_apart(settings, key, "test", "val")

    def make_reader(self) -> FolderReader:
        """Build the reader of plain folders."""
        return FolderReader(
            self.root,
            classes=self.classes,
            val=self.val,
            test=self.test,
            name=self.name,
            labels_root=self.labels_root,
            extract_labels=self.extract_labels,
            exclude=self.exclude or (),
        )


@dataclass(kw_only=True, eq=False, repr=False)
class _WorldDataModule(ClipDataModule):
    """Base data module of the synthetic worlds."""

    n_train: int
    """Training recordings."""
    n_val: int
    """Validation recordings."""
    n_test: int
    """Test recordings."""
    frames_per_recording: int
    """Frames of each recording."""
    frame_rate: float
    """Frame rate in Hz."""
    world_seed: int = 0
    """Random seed of the recordings (`seed` is that of the training order)."""
    world: ClassVar[type[WorldReader]]

    def training_data(self) -> dict[str, Any]:
        """See `ClipDataModule`; how many test recordings there are changes no training."""
        settings = super().training_data()
        counts = {split: n for split, n in settings["counts"].items() if split != "test"}
        return {**settings, "counts": counts}

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any], key: str) -> None:
        """See `ClipDataModule`."""
        rules = {
            "n_train": Rule(whole(0), "recordings"),
            "n_val": Rule(whole(0), "recordings"),
            "n_test": Rule(whole(0), "recordings"),
            "frames_per_recording": Rule(whole(1), "frames"),
            "frame_rate": Rule(number(above=0), "Hz"),
            "world_seed": Rule(whole(0)),
        }
        check_rules(settings, rules, key)

    def make_reader(self) -> WorldReader:
        """Build the reader that renders the world."""
        return self.world(
            self.n_train, self.n_val, self.n_test, self.frames_per_recording, self.frame_rate,
            self.world_seed,
        )  # fmt: skip


@dataclass(kw_only=True, eq=False, repr=False)
class SyntheticDataModule(_WorldDataModule):
    """Synthetic driving world: label maps, RGB, ground-truth optical flow; rendered on demand."""

    world = DrivingWorldReader
    label_space_name = world.label_space.name
    has_flow = True


@dataclass(kw_only=True, eq=False, repr=False)
class AvenueDataModule(_WorldDataModule):
    """Synthetic avenue: a driving world whose future is predictable from its past."""

    world = AvenueReader
    label_space_name = world.label_space.name
    has_flow = True


@dataclass(kw_only=True, eq=False, repr=False)
class WalkerDataModule(_WorldDataModule):
    """Synthetic walker world: a person as part maps (25 classes) and RGB; rendered on demand."""

    world = WalkerWorldReader
    label_space_name = world.label_space.name
