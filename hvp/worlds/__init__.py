"""Synthetic worlds: label maps, RGB and exact flow by seed, with nothing to download."""
