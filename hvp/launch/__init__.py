"""Launchers: run a stage in this process, on every device, or as SLURM jobs."""
