"""Evaluation: protocol, measures, baselines and results."""
