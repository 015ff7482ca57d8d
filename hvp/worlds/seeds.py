"""Random seeds derived from names: a recording's seed does not depend on other recordings."""

import hashlib


def named_seed(seed: int, name: str) -> int:
    """32-bit random seed of the recording `name`, from the seed of its dataset."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
