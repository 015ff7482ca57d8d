"""Writers of synthetic datasets in the official layouts of real ones."""
