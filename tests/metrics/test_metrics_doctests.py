import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "diversity",
        "fid",
        "frechet",
        "horizon",
        "i3d",
        "image",
        "label_drift",
        "likelihood",
        "perceptual",
        "segmentation",
        "video",
        "windows",
    ],
)
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"hvp.metrics.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
