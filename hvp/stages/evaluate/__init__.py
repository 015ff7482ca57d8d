"""Stage `evaluate`: metrics of both stages against ground truth and baselines, and the report."""

from hvp.stages.evaluate.stage import Evaluate

__all__ = ["Evaluate"]
