"""W&B runs and artifacts, with everything that makes them survive a slow or absent server."""
