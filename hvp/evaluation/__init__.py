"""Evaluation: protocol, baselines and the report."""
