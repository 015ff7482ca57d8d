"""Metrics in the style of torchmetrics: each a function and a streaming `Metric` class."""
