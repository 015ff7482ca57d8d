"""W&B chart presets, named by both the loggers and the dashboard."""

LINES = (
    "wandb/lineseries/v0",
    {"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"},
)
"""W&B's chart of several lines, and which column of a table it shows where."""
CONFUSION = (
    "wandb/confusion_matrix/v1",
    {name: name for name in ("Actual", "Predicted", "nPredictions")},
)
"""W&B's chart of a confusion matrix, likewise."""
