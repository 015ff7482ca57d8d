"""How a command becomes processes: checked, started here, on every device, or as SLURM jobs."""
