"""W&B artifacts and runs, and what survives a server that is slow or away."""
