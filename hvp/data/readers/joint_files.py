"""2D pose files: Human3.6M .cdf, VideoPose3D .npz and plain .npz, behind one protocol.

    <root>/S1/MyPoseFeatures/D2_Positions/Directions 1.54138969.cdf     official, one per camera
    data_2d_h36m_gt.npz     VideoPose3D: {subject: {action: [array per camera]}}
    <any>.npz               plain arrays called <subject>__<action>__<take>, no cameras

All give joints (T, 17, 2) in pixels of the original video, in the order of
`hvp.worlds.body.skeleton.Joint`.

Shapes: T frames, J = 17 joints.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import cdflib
import numpy as np

from hvp.data.readers.restricted_pickle import load_object, npz_keys
from hvp.errors import DataError
from hvp.npz_files import open_npz, read_array
from hvp.worlds.body.skeleton import JOINTS_OF_32, N_JOINTS


@dataclass(frozen=True)
class Take:
    """Take: one performance seen by one camera."""

    subject: str
    """Subject, `S1`; for plain arrays the first part of the key."""
    action: str
    """Action, with the number of the take: `Directions 1`."""
    camera: str
    """Camera number; empty where the file has none."""
    n_frames: int
    path: Path
    """File of the joints."""

    @property
    def stem(self) -> str:
        """File stem of the take, as `Directions 1.54138969`."""
        return f"{self.action}.{self.camera}" if self.camera else self.action

    @property
    def name(self) -> str:
        """Unique name, as `S1/Directions 1.54138969`."""
        return f"{self.subject}/{self.stem}"


class JointFiles(Protocol):
    """Source of 2D joints. All methods raise `DataError` for files that cannot be read."""

    def takes(self) -> list[Take]:
        """All takes, in a stable order."""

    def joints(self, take: Take) -> np.ndarray:
        """Joints (T, J, 2) float64 of one take, in pixels of its video."""


def open_joint_files(root: Path, joints: str | Path | None, cameras: Sequence[str]) -> JointFiles:
    """Open the joint files: `joints` below `root` (or anywhere), else the `.cdf` files of `root`.

    Args:
        root: folder of the dataset.
        joints: an `.npz` file of either kind; None for `.cdf` files.
        cameras: camera numbers, in the order of VideoPose3D's file.

    Raises:
        DataError: the file is missing or not an `.npz` file.
    """
    if joints is None:
        return CdfJoints(root, cameras)
    path = root / joints
    if "positions_2d" in npz_keys(path):
        return VideoPose3DJoints(path, cameras)
    return NpzJoints(path)


class CdfJoints:
    """`D2_Positions/<action>.<camera>.cdf`, variable `Pose`: (1, T, 64) = 32 joints x 2 pixels."""

    _FILE = re.compile(r"([^._][^.]*)\.(\d+)\.cdf")

    def __init__(self, root: Path, cameras: Sequence[str]) -> None:
        self.root = root
        self.cameras = tuple(cameras)

    def takes(self) -> list[Take]:
        """One take per subject, action and camera; reads file headers only."""
        found = []
        for path in sorted(self.root.glob("*/MyPoseFeatures/D2_Positions/*.cdf")):
            match = self._FILE.fullmatch(path.name)
            if match and match[2] in self.cameras:
                subject = path.relative_to(self.root).parts[0]
                found.append(Take(subject, match[1], match[2], self._n_frames(path), path))
        if not found:
            raise DataError(
                f"{self.root}: no <subject>/MyPoseFeatures/D2_Positions/<action>.<camera>.cdf of "
                f"cameras {', '.join(self.cameras)}; point data_root at the folder of S1, S5, ... "
                "or give an .npz file of joints (dataset.datamodule.joints)"
            )
        return found

    def joints(self, take: Take) -> np.ndarray:
        """17 joints (T, J, 2) of the 32 in one file."""
        pose = _read_cdf(take.path, lambda file: np.asarray(file.varget("Pose")))
        if pose.size != take.n_frames * 64:
            raise DataError(
                f"{take.path}: Pose is {pose.shape}, expected (1, {take.n_frames}, 64); get it "
                "again"
            )
        return _validated(pose.reshape(-1, 32, 2)[:, JOINTS_OF_32], str(take.path))

    def _n_frames(self, path: Path) -> int:
        """Frame count from the header: records times record size."""
        about = _read_cdf(path, lambda file: file.varinq("Pose"))
        sizes = [about.Last_Rec + 1, *about.Dim_Sizes]
        if sizes[-1] != 64:
            raise DataError(
                f"{path}: Pose is {sizes}, expected [1, frames, 64] (32 joints x 2); are these the "
                "D2_Positions?"
            )
        return int(np.prod(sizes[:-1]))


class VideoPose3DJoints:
    """VideoPose3D's `data_2d_h36m_gt.npz`: `positions_2d[subject][action]` = one array a camera."""

    def __init__(self, path: Path, cameras: Sequence[str]) -> None:
        self.path = path
        self.cameras = tuple(cameras)

    @cached_property
    def _arrays(self) -> dict[Take, np.ndarray]:
        positions = load_object(self.path, "positions_2d")
        found = {}
        try:
            for subject, actions in positions.items():
                for action, arrays in actions.items():
                    for camera, array in zip(self.cameras, arrays, strict=True):
                        take = Take(subject, action, camera, len(array), self.path)
                        found[take] = np.asarray(array)
        except (AttributeError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.path}: positions_2d is not {{subject: {{action: [one array per camera]}}}} "
                f"with {len(self.cameras)} cameras ({error}); check the file and "
                "dataset.datamodule.cameras"
            ) from error
        return found

    def takes(self) -> list[Take]:
        """One take per subject, action and camera."""
        return list(self._arrays)

    def joints(self, take: Take) -> np.ndarray:
        """Joints (T, J, 2) of one take."""
        return _validated(self._arrays[take], f"{self.path}, {take.name}")


class NpzJoints:
    """Plain `.npz` arrays (T, 17, 2) called `<subject>__<action>__<take>`; unpickles nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _arrays(self) -> dict[Take, np.ndarray]:
        found = {}
        for key in npz_keys(self.path):
            parts = key.split("__")
            if len(parts) != 3:
                raise DataError(
                    f"{self.path}: array {key!r} is not called <subject>__<action>__<take>, and "
                    "there is no positions_2d; rename the arrays or give another file "
                    "(dataset.datamodule.joints)"
                )
            try:
                with open_npz(self.path) as archive:
                    array = read_array(archive, f"{key}.npy")
            except Exception as error:  # a damaged archive raises nearly anything
                raise DataError(
                    f"{self.path}: array {key!r} cannot be read ({error!s:.200}); get the file "
                    "again"
                ) from error
            array = _validated(array, f"{self.path}, array {key!r}")
            found[Take(parts[0], f"{parts[1]}/{parts[2]}", "", len(array), self.path)] = array
        return found

    def takes(self) -> list[Take]:
        """One take per array."""
        return list(self._arrays)

    def joints(self, take: Take) -> np.ndarray:
        """Joints (T, J, 2) of one take."""
        return self._arrays[take]


def _read_cdf(path: Path, read: Any) -> Any:
    try:
        return read(cdflib.CDF(path))
    except Exception as error:  # cdflib raises nearly anything on damaged files
        raise DataError(
            f"{path}: cannot be read as .cdf with a variable Pose ({error!r}); it is truncated or "
            "of another format: get it again"
        ) from error


def _validated(joints: np.ndarray, where: str) -> np.ndarray:
    if joints.ndim != 3 or joints.shape[1:] != (N_JOINTS, 2) or not len(joints):
        raise DataError(
            f"{where}: joints are {joints.shape}, expected (frames, {N_JOINTS}, 2); give 2D "
            "positions of the 17 joints of Human3.6M"
        )
    joints = joints.astype(np.float64)
    if not np.isfinite(joints).all():
        frame = int(np.nonzero(~np.isfinite(joints).all((1, 2)))[0][0])
        raise DataError(f"{where}: joints of frame {frame} are not finite; repair or leave it out")
    return joints
