"""Sweeps (Hydra multiruns): job records, overview table, pruning, Optuna study."""
