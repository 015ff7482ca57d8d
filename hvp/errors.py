"""Exception types of the package.

Every message names the file or config key, what was found, what was expected and what to do.
`run.py` prints them without a stack trace.
"""

from hvp.text import visible


class HVPError(Exception):
    """Base class of all errors that a user can act on; its text is one line, safe to show."""

    def __str__(self) -> str:
        return visible(super().__str__())


class ConfigError(HVPError):
    """Invalid config: a key is unknown, contradictory or out of range."""


class DataError(HVPError):
    """Invalid data: files are missing, unreadable or do not match their layout."""


class ArtifactError(HVPError):
    """Invalid artifact: missing, corrupt, or made with other settings than those asked for."""


class ServerError(ArtifactError):
    """Artifact server error: it cannot be reached, or failed."""


class TrainingPruned(HVPError):
    """Pruned training: the sweep's pruner ended it, other jobs were better at the same step."""
