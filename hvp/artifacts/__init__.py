"""Artifacts: versioned files that stages exchange, and the local and W&B stores of them."""
