"""Synthetic walker world: videos of one person."""
