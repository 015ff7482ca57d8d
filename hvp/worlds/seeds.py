"""Seeds by name: every recording of a world has its own, whatever else is drawn."""

import hashlib


def named_seed(seed: int, name: str) -> int:
    """A seed of 32 bits for the recording called `name`, from the seed of its dataset."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
