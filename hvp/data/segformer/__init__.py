"""Pseudo-labels: semantic label maps predicted by a SegFormer where a dataset has none."""
