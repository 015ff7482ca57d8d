"""Restricted unpickler: numpy arrays from untrusted .npz files, without running their code.

VideoPose3D's pose files hold dictionaries of arrays as one pickled object array. A pickle may name
any function to call; only the few that rebuild a numpy array are allowed here.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from hvp.errors import DataError
from hvp.npz_files import open_npz


def _latin1(text: str, encoding: str) -> bytes:
    """Decoder of bytes in old pickles: text in latin1; other encodings are refused."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes bytes as {encoding!r}, not latin1")
    return text.encode("latin1")


_ARRAY = np.empty(0)
# Taken from numpy itself: their modules have moved between its versions.
_ALLOWED: dict[str, Any] = {
    "ndarray": np.ndarray,
    "dtype": np.dtype,
    "_reconstruct": _ARRAY.__reduce__()[0],
    "_frombuffer": _ARRAY.__reduce_ex__(5)[0],
}
_MODULES = {
    "numpy", "numpy.core.multiarray", "numpy._core.multiarray",
    "numpy.core.numeric", "numpy._core.numeric",
}  # fmt: skip


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that allows plain Python values and numpy arrays only."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name in _ALLOWED:
            return _ALLOWED[name]
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")


def load_object(path: Path, key: str) -> Any:
    """Safely unpickle the value (dicts, lists, numbers, arrays) under `key` of an `.npz` file.

    Raises:
        DataError: the file is unreadable, lacks `key`, or its pickle names anything but arrays
            (nothing of it has run then).
    """
    try:
        with open_npz(path) as archive, archive.open(f"{key}.npy") as file:
            version = npy.read_magic(file)
            read_header = {
                (1, 0): npy.read_array_header_1_0,
                (2, 0): npy.read_array_header_2_0,
            }[version]
            shape, _, dtype = read_header(file)
            if dtype != np.dtype(object) or shape != ():
                raise DataError(
                    f"{path}: {key!r} is an array {dtype} {shape}, expected one pickled dictionary "
                    "(VideoPose3D's data_2d_h36m_gt.npz)"
                )
            array = _ArrayUnpickler(file).load()
            return array.item()
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: the pickle under {key!r} was refused: {error}; only numpy arrays in "
            "dictionaries and lists are read: do not trust this file, get it from its authors"
        ) from error
    except DataError:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(
            f"{path}: cannot be read ({error!r}); it is truncated or not an .npz file with "
            f"{key!r}: get it again"
        ) from error


def npz_keys(path: Path) -> list[str]:
    """Names of the arrays in an `.npz` file, in its order.

    Raises:
        DataError: the file is missing or not such a file.
    """
    try:
        with open_npz(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: the file is missing; give the file of joints (dataset.datamodule.joints) or "
            "null for the .cdf files below data_root"
        ) from error
    except Exception as error:  # a damaged archive raises nearly anything
        raise DataError(
            f"{path}: cannot be read as .npz ({error}); it is truncated or of another format: "
            "get it again"
        ) from error
