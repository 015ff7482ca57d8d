"""SegFormer semantic segmentation (Xie et al. 2021) through `transformers`.

A model is a name on the Hugging Face hub (cached by its library), or a local directory as
`save_pretrained` writes it: `config.json`, `preprocessor_config.json` and the weights
(`model.safetensors`, or `pytorch_model.bin`, which is read as tensors only).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hvp.errors import ConfigError
from hvp.files import file_digest, settings_digest
from hvp.labels import LabelSpace

KEY = "dataset.extract_labels.model"
"""Config key of the model, for error messages."""

_FILES = ("*.json", "*.safetensors", "*.bin")


def model_digest(model: str, revision: str) -> str:
    """SHA-256 (hex) of a local model's files, or of a hub model's name and revision.

    Raises:
        ConfigError: `model` can only be a directory, and there is none.
    """
    folder = local_folder(model)
    if folder is None:
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

    def __init__(self, model: str, revision: str, space: LabelSpace) -> None:
        """Args:
        model: name on the hub, or a local directory.
        revision: branch, tag or commit of a hub model.
        space: label space of the maps. Classes are matched by name where both have the same
            names; else by position, as for models without class names.

        Raises:
            ConfigError: the model cannot be loaded, is no SegFormer for segmentation, or has
                another number of classes than `space`.
        """
        self._processor, self._network = _load(model, revision)
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


def _load(model: str, revision: str) -> tuple[Any, Any]:
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
    folder = local_folder(model)
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": model if folder is None else str(folder),
        "revision": revision,
        "local_files_only": folder is not None,
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
        reason = " ".join(str(error).split())[:300]
        advice = (
            "it must hold config.json, preprocessor_config.json and model.safetensors"
            if folder is not None
            else f"without network, download it elsewhere and set {KEY} to its local directory "
            "(config.json, preprocessor_config.json, model.safetensors or pytorch_model.bin)"
        )
        raise ConfigError(f"{KEY}={model}: cannot be loaded ({reason}); {advice}") from error
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
