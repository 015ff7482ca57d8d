"""The jobs of a multirun (`python run.py -m ...`): records, table, pruning, Optuna study."""
