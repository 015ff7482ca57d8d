"""Stages (`stage=`): prepare, structure, image, svg_rgb, evaluate, pipeline, dashboard."""
