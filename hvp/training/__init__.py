"""Training with Lightning: fit, checkpoints, exact resume, DDP, FSDP, EMA, callbacks."""
