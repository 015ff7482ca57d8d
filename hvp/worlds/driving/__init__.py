"""Synthetic driving world: dash-cam videos of streets."""
