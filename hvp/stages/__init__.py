"""What `stage=` names: prepare, structure, image, svg_rgb, evaluate, pipeline, dashboard."""
