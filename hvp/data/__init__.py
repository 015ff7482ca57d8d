"""Datasets: readers of raw layouts, memory-mapped clip store, Lightning data modules."""
