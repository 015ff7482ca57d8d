"""Synthetic video worlds: label maps, RGB and ground-truth optical flow, rendered from a seed."""
