"""Metrics in the manner of torchmetrics: a functional form and a streaming class each."""
