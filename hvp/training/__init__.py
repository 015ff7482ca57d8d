"""What a Trainer is given: fit, checkpoints, exact resume, DDP, FSDP, EMA, callbacks."""
