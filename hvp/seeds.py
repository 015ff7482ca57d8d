"""Seeds derived by hashing names, independent of order, batch, rank and process."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Hash the parts (SHA-256) to a 63-bit seed, the same in every process."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
