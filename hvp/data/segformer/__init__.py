"""Label maps made by a SegFormer where a dataset has none."""
