"""Stage `evaluate`: metrics of both stages against ground truth and baselines, and the report."""

from hvp.stages.evaluate.stage import find_published, run, show_published

__all__ = ["find_published", "run", "show_published"]
