"""W&B server for tests; see server.py."""

from tests.wandb_server.server import WandbServer

__all__ = ["WandbServer"]
