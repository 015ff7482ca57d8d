"""Seeds: random numbers that depend on names alone, not on order, batch, rank or process."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from its parts (SHA-256), the same in every process."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
