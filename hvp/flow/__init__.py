"""Optical flow: frozen teachers and backward warping."""
