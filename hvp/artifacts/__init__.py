"""Artifacts: what the stages hand to each other, and the stores that keep it."""
