"""Stages of `stage=pipeline`, in order, and those of them that train a model."""

STAGES = ("prepare", "structure", "image", "evaluate")
TRAINED = ("structure", "image")
