"""Settings of all tests: hypothesis draws the same examples each time, and keeps no database."""

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, database=None, deadline=None)
settings.load_profile("deterministic")
