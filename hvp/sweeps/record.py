"""Job record: state, metrics and reports of one job of a sweep, as a JSON file.

<sweep_dir>/jobs/<number>.json   record of a job, written atomically
<sweep_dir>/<number>/            the job's output directory
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hvp.errors import DataError
from hvp.files import read_json, write_json

State = Literal["running", "finished", "pruned", "failed"]


@dataclass(frozen=True)
class JobRecord:
    """Job record: state, metrics and reports of one job of a sweep."""

    number: int
    """Position in the sweep, from 0."""
    overrides: tuple[str, ...]
    """The job's overrides, `key=value`."""
    settings: str
    """Digest of the settings that its result depends on."""
    output_dir: str
    """Directory of its checkpoints and logs."""
    state: State = "running"
    """`running` until it ends; stays so after a kill."""
    metric: str | None = None
    """Name of the metric that ranks the jobs."""
    value: float | None = None
    """Value of the metric at the end, or when it was pruned."""
    metrics: dict[str, float] = field(default_factory=dict)
    """All validation metrics of the trained model."""
    reports: dict[int, float] = field(default_factory=dict)
    """Value of the metric after each validation, by training step."""
    pruner_state: dict[str, Any] = field(default_factory=dict)
    """State of the pruner for this job (Optuna system attributes), JSON values."""
    seconds: float = 0.0
    """Run time in seconds, over all starts."""
    error: str | None = None
    """Error message of a failed job."""

    @property
    def done(self) -> bool:
        """Whether it finished or was pruned."""
        return self.state in ("finished", "pruned")

    @classmethod
    def read(cls, path: Path) -> "JobRecord | None":
        """Read the record at `path`; None if there is none.

        Raises:
            DataError: the file cannot be read.
        """
        if not path.exists():
            return None
        content = read_json(path, DataError, "delete it", finite=False)
        try:
            content["overrides"] = tuple(content["overrides"])
            content["reports"] = {int(step): v for step, v in content["reports"].items()}
            return cls(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{path}: not the record of a job ({error!r:.200}); delete it"
            ) from error

    def write(self, path: Path) -> None:
        """Write the record to `path`, atomically."""
        write_json(path, asdict(self))


def read_records(sweep_dir: Path) -> list[JobRecord]:
    """Records of all started jobs of a sweep, by number."""
    paths = (sweep_dir / "jobs").glob("[!.]*.json")  # others may be writing theirs
    found = [JobRecord.read(path) for path in paths]
    return sorted((record for record in found if record), key=lambda record: record.number)
