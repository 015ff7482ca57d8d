"""Exception types of the package.

Every message names the file or config key, what was found, what was expected and what to do.
`run.py` prints them without a stack trace.
"""


class HVPError(Exception):
    """Base class of all errors that a user can act on."""


class ConfigError(HVPError):
    """A config key is unknown, contradictory or out of range."""


class DataError(HVPError):
    """A dataset's files are missing, unreadable or not what their layout promises."""


class ArtifactError(HVPError):
    """An artifact is missing, corrupt or made with other settings than those asked for."""


class ServerError(ArtifactError):
    """The artifact server cannot be reached, or failed."""


class TrainingPruned(HVPError):
    """A sweep's pruner ended this training: other jobs were better at the same step."""
