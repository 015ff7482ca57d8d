"""People as skeletons, capsules and part maps."""
