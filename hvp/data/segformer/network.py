"""SegFormer semantic segmentation (Xie et al. 2021) through `transformers`.

A model is a name and a commit on the Hugging Face hub (cached by its library), or a local directory
as `save_pretrained` writes it: `config.json`, `preprocessor_config.json` and the weights
(`model.safetensors`, or `pytorch_model.bin`, which is read as tensors only).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hvp.errors import ConfigError
from hvp.files import file_digest, settings_digest
from hvp.labels import LabelSpace

SECTION = "dataset.extract_labels"
"""Config section of the model, for error messages."""
KEY = f"{SECTION}.model"
"""Config key of the model, for error messages."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SETTINGS = ("config.json", "preprocessor_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_FILES = ("*.json", "*.safetensors", "*.bin")


def model_digest(model: str, revision: str | None) -> str:
    """SHA-256 (hex) of a local model's files, or of a hub model's name and commit.

    Raises:
        ConfigError: `model` can only be a directory, and there is none; or the revision of a hub
            model is no commit, so that it could be other weights tomorrow.
    """
    folder = local_folder(model)
    if folder is None:
        if revision is None or not _COMMIT.fullmatch(revision):
            raise ConfigError(
                f"{SECTION}.revision={revision}: expected the commit of {model} (40 hex digits, on "
                "its page under Files, History), because a branch or tag moves; give it"
            )
        return settings_digest({"model": model, "revision": revision})
    files = sorted({file for pattern in _FILES for file in folder.glob(pattern)})
    return settings_digest({file.name: file_digest(file) for file in files})


def local_folder(model: str) -> Path | None:
    """Local directory of a model, or None for a hub name (`owner/name`).

    Raises:
        ConfigError: `model` can only be a directory, and there is none.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model.startswith((".", "~", "/")) or model.count("/") > 1:
        raise ConfigError(
            f"{KEY}={model}: no such directory; give one with config.json, "
            "preprocessor_config.json and model.safetensors, or a name on the Hugging Face hub"
        )
    return None


class Segmenter:
    """SegFormer inference on the best local device, mapped to the label ids of one dataset."""

    def __init__(
        self, model: str, revision: str | None, space: LabelSpace, sha256: str | None = None
    ) -> None:
        """Args:
        model: name on the hub, or a local directory.
        revision: commit of a hub model.
        space: label space of the maps. Classes are matched by name where both have the same
            names; else by position, as for models without class names.
        sha256: SHA-256 of a hub model's weights file; None = not checked.

        Raises:
            ConfigError: the model cannot be loaded, has other weights than `sha256` says, is no
                SegFormer for segmentation, or has another number of classes than `space`.
        """
        local = local_folder(model)
        folder = _download(model, revision) if local is None else local
        self.weights_sha256 = _weights_digest(model, folder, sha256 if local is None else None)
        """SHA-256 of the weights file that was read."""
        self._processor, self._network = _load(model, folder)
        self._ids = _class_ids(self._network.config.id2label, space, model)
        self._device = _best_device()
        self._network.requires_grad_(False).eval().to(self._device)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Label maps (H, W) uint8 of RGB images, each at its image's size."""
        inputs = self._processor(images=list(images), return_tensors="pt").to(self._device)
        maps = self._processor.post_process_semantic_segmentation(
            self._network(**inputs), [(image.height, image.width) for image in images]
        )
        return [self._ids[map_HW.cpu().numpy()] for map_HW in maps]


def _download(model: str, revision: str | None) -> Path:
    """Folder of a hub model in the cache; downloads what is missing."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        for name in _SETTINGS:
            path = hf_hub_download(model, name, revision=revision)
        try:
            hf_hub_download(model, _WEIGHTS[0], revision=revision)
        except EntryNotFoundError:
            hf_hub_download(model, _WEIGHTS[1], revision=revision)
    except Exception as error:  # the hub's library raises many types
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{KEY}={model}: commit {revision} cannot be had ({reason}); give the commit of this "
            f"model ({SECTION}.revision), or, without network, download it elsewhere and set {KEY} "
            f"to its local directory ({', '.join(_SETTINGS)}, {' or '.join(_WEIGHTS)})"
        ) from error
    return Path(path).parent


def _weights_digest(model: str, folder: Path, expected: str | None) -> str:
    """SHA-256 of the weights file in `folder`, which must be `expected` unless that is None."""
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise _not_loaded(model, f"{folder} has no {' or '.join(_WEIGHTS)}")
    found = file_digest(path)
    if expected is not None and found != expected:
        raise ConfigError(
            f"{KEY}={model}: SHA-256 of {path.name} is {found}, expected {expected} "
            f"({SECTION}.sha256); give that of this model and commit, null for none, or delete "
            f"{path.parent} if the download is damaged"
        )
    return found


def _not_loaded(model: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{KEY}={model}: cannot be loaded ({reason}); it must hold {', '.join(_SETTINGS)} and "
        f"{_WEIGHTS[0]}"
    )


def _load(model: str, folder: Path) -> tuple[Any, Any]:
    # Imported here: it takes seconds, and only datasets without label maps need it.
    from transformers import (
        AutoConfig,
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessor,
    )
    from transformers.utils import logging

    logging.set_verbosity_error()  # its warnings are errors below
    logging.disable_progress_bar()
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": str(folder),
        "local_files_only": True,
    }
    try:
        config = AutoConfig.from_pretrained(**source)
        if not isinstance(config, SegformerConfig):
            raise ConfigError(
                f"{KEY}={model}: a model of type {config.model_type!r}; expected a SegFormer"
            )
        processor = SegformerImageProcessor.from_pretrained(**source)
        segformer: Any = SegformerForSemanticSegmentation  # its types know one return value only
        network, report = segformer.from_pretrained(
            **source, weights_only=True, output_loading_info=True
        )
    except ConfigError:
        raise
    except Exception as error:  # transformers and its readers raise many types
        raise _not_loaded(model, " ".join(str(error).split())[:300]) from error
    if report["missing_keys"]:
        raise ConfigError(
            f"{KEY}={model}: weights without {min(report['missing_keys'])}; expected a SegFormer "
            "trained for semantic segmentation (a bare encoder has no label head)"
        )
    return processor, network


def _class_ids(names: dict[int, str], space: LabelSpace, model: str) -> np.ndarray:
    """Lookup table (C,) uint8 from the model's class indices to label ids of `space`."""
    if len(names) != space.n_classes:
        raise ConfigError(
            f"{KEY}={model}: {len(names)} classes, but dataset.classes={space.name} has "
            f"{space.n_classes}; give a model trained on the classes of the dataset, or label maps"
        )
    own = [names[index].casefold() for index in range(len(names))]
    classes = [name.casefold() for name in space.classes]
    if sorted(own) == sorted(classes) and len(set(own)) == len(own):
        return np.array([classes.index(name) for name in own], np.uint8)
    return np.arange(len(names), dtype=np.uint8)


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
