"""Tiny SegFormer with random weights, saved as a directory like those of the hub."""

from pathlib import Path

import torch

from hvp.labels import CITYSCAPES


def save_segformer(folder: Path, n_classes: int = 19, seed: int = 0, names: tuple = ()) -> Path:
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessor,
    )
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    config = SegformerConfig(
        num_labels=n_classes, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=8,
    )  # fmt: skip
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: index for index, name in enumerate(names)}
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


CITYSCAPES_NAMES = CITYSCAPES.classes
