"""One LightningDataModule per dataset.

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

Each class lists what its raw data needs; what all of them have is in
`hvp.data.datamodule.ClipDataModule`. The published values of every field stand in conf/dataset/
(splits, exclusions, clip rules, sizes), not here; docs/datasets.md explains them.

Another dataset: a reader (`hvp.data.readers.base.Reader`), a class here, a file in conf/dataset/.
"""

from collections.abc import Sequence
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


@dataclass(kw_only=True, eq=False, repr=False)
class KITTIDataModule(ClipDataModule):
    """KITTI raw, synced and rectified, with label maps of the 19 Cityscapes classes."""

    root: str | Path
    """Folder with one folder per date."""
    labels_root: str | Path | None = None
    """Folder of the label maps, the same tree; None = also `root`."""
    val: Sequence[str]
    """Validation drives, as `2011_09_26_drive_0005`."""
    test: Sequence[str]
    """Test drives; the rest trains."""
    exclude: Sequence[Sequence[str]]
    """(first, last) pairs of drives; those between, both included, are left out."""
    view_size: Sequence[int]
    """Pictures are scaled to this height, cropped to this width, then resized to `size`."""
    camera: str = "image_03"
    """Folder name of the camera."""
    extract_labels: LabelExtractor | None = None
    """Makes the label maps of drives that have none; None = they must be given."""

    def make_reader(self) -> KITTIReader:
        """The reader of KITTI raw."""
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
    """Cityscapes sequences of 30 frames with dense label maps."""

    root: str | Path
    """Folder that holds `leftImg8bit_sequence`."""
    labels_root: str | Path | None = None
    """Folder of the label maps, the same tree; None = also `root`."""
    stored_size: Sequence[int]
    """Pictures are resized to this height and width first, then to `size`."""
    evaluate_on: Literal["val", "test"] = "val"
    """Official split that becomes the test split."""
    gt_fine: Literal["none", "test", "all"] = "none"
    """Where gtFine replaces the dense label map of the frame that it annotates."""
    extract_labels: LabelExtractor | None = None
    """Makes the label maps of sequences that have none; None = they must be given."""

    def make_reader(self) -> CityscapesReader:
        """The reader of Cityscapes sequences."""
        return CityscapesReader(
            self.root,
            self.stored_size,
            labels_root=self.labels_root,
            evaluate_on=self.evaluate_on,
            gt_fine=self.gt_fine,
            extract_labels=self.extract_labels,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class DensePoseDataModule(ClipDataModule):
    """Videos of people as DensePose part maps, 25 classes."""

    root: str | Path
    """Folder with `split.json` and the IUV pictures."""
    frames_root: str | Path | None = None
    """Folder of the RGB frames, the same tree; None = also `root`."""

    def make_reader(self) -> DensePoseReader:
        """The reader of DensePose part maps."""
        return DensePoseReader(self.root, self.frames_root)


@dataclass(kw_only=True, eq=False, repr=False)
class Human36MDataModule(ClipDataModule):
    """Human3.6M, or any 2D joints in its order, as part maps of 25 classes."""

    root: str | Path
    """Folder of the subjects."""
    joints: str | Path | None = None
    """An `.npz` file of joints, below `root` or anywhere; None = the `.cdf` files."""
    train: Sequence[str]
    """Subjects to train on, less those of `val`."""
    val: Sequence[str]
    """Subjects held out for validation; without any, test clips validate."""
    test: Sequence[str]
    """Subjects of the test split."""
    cameras: Sequence[str]
    """Numbers of the cameras that are read, in the order of the community file."""
    exclude: Sequence[str] = ()
    """Takes left out, as `S11/Directions.54138969` or, of all cameras, `S11/Directions`."""
    margin: float
    """Width of the border around the person in the square, as a share of its side."""

    def make_reader(self) -> Human36MReader:
        """The reader of Human3.6M."""
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
    """Your own sequences of label maps and RGB frames, or one of both, in folders or videos."""

    root: str | Path
    """Folder with one folder (`label/*.png`, `rgb/*.png`), or one video, per sequence."""
    labels_root: str | Path | None = None
    """Folder of the label maps, the same tree; None = also `root`."""
    classes: str | Path = "cityscapes"
    """A class file or the name of a built-in label space (`hvp.labels.load_label_space`)."""
    val: Sequence[str] | None = None
    """Names of the validation sequences; None = chosen by `hvp.data.readers.folder`."""
    test: Sequence[str] | None = None
    """Names of the test sequences; None = the last one."""
    name: str = "folder"
    """Name of the dataset in the store and in reports."""
    extract_labels: LabelExtractor | None = None
    """Makes the label maps of sequences that have none; None = they must be given."""

    def make_reader(self) -> FolderReader:
        """The reader of plain folders."""
        return FolderReader(
            self.root,
            classes=self.classes,
            val=self.val,
            test=self.test,
            name=self.name,
            labels_root=self.labels_root,
            extract_labels=self.extract_labels,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class _WorldDataModule(ClipDataModule):
    """What the synthetic worlds share."""

    n_train: int
    """Training recordings."""
    n_val: int
    """Validation recordings."""
    n_test: int
    """Test recordings."""
    frames_per_recording: int
    """Frames of each recording."""
    frame_rate: float
    """Frames per second of the world's clock."""
    world_seed: int = 0
    """Seed of the recordings (`seed` is that of the training order)."""
    world: ClassVar[type[WorldReader]]

    def training_data(self) -> dict[str, Any]:
        """See `ClipDataModule`; how many test recordings there are changes no training."""
        settings = super().training_data()
        counts = {split: n for split, n in settings["counts"].items() if split != "test"}
        return {**settings, "counts": counts}

    def make_reader(self) -> WorldReader:
        """The reader that draws the world."""
        return self.world(
            self.n_train, self.n_val, self.n_test, self.frames_per_recording, self.frame_rate,
            self.world_seed,
        )  # fmt: skip


@dataclass(kw_only=True, eq=False, repr=False)
class SyntheticDataModule(_WorldDataModule):
    """The synthetic driving world: labels, RGB and exact flow, drawn on demand."""

    world = DrivingWorldReader


@dataclass(kw_only=True, eq=False, repr=False)
class AvenueDataModule(_WorldDataModule):
    """The driving world's avenue, whose future can be told from its past."""

    world = AvenueReader


@dataclass(kw_only=True, eq=False, repr=False)
class WalkerDataModule(_WorldDataModule):
    """The synthetic walker world: a person as part maps of 25 classes and RGB, drawn on demand."""

    world = WalkerWorldReader
