"""The synthetic worlds written out in the official layouts of real datasets."""
