import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module", ["evaluation.curves", "evaluation.metric", "evaluation.missing", "reporting.panels"]
)
def test_docstring_examples_run(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"hvp.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
