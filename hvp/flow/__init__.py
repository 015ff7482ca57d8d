"""Optical flow: frozen teachers, and warping by a flow field."""
