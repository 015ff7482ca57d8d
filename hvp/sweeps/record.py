"""Record of a sweep's job: what the sweep's directory knows about it.

<sweep_dir>/jobs/<number>.json   one record per job, always whole: written to the side and renamed
<sweep_dir>/<number>/            the job's output directory
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hvp.errors import DataError
from hvp.files import write_json

State = Literal["running", "finished", "pruned", "failed"]


@dataclass(frozen=True)
class JobRecord:
    """What is known about one job of a sweep."""

    number: int
    """Position in the sweep, from 0."""
    overrides: tuple[str, ...]
    """The job's overrides, `key=value`."""
    settings: str
    """Digest of what its result depends on."""
    output_dir: str
    """Where it keeps its checkpoints and logs."""
    state: State = "running"
    """`running` until it ends, and after a kill."""
    metric: str | None = None
    """What ranks the jobs."""
    value: float | None = None
    """The metric at the end, or when it was pruned."""
    metrics: dict[str, float] = field(default_factory=dict)
    """All metrics of the trained model."""
    reports: dict[int, float] = field(default_factory=dict)
    """The metric after each validation, by training step."""
    pruner_state: dict[str, Any] = field(default_factory=dict)
    """What the pruner noted about this job; JSON values."""
    seconds: float = 0.0
    """Time spent, over all starts."""
    error: str | None = None
    """Why it failed."""

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state in ("finished", "pruned")

    @classmethod
    def read(cls, path: Path) -> "JobRecord | None":
        """The record at `path`, if there is one.

        Raises:
            DataError: it cannot be read.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["overrides"] = tuple(content["overrides"])
            content["reports"] = {int(step): v for step, v in content["reports"].items()}
            return cls(**content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: not the record of a job ({error!r}); delete it") from error

    def write(self, path: Path) -> None:
        """Put the record at `path`, atomically."""
        write_json(path, asdict(self))


def read_records(sweep_dir: Path) -> list[JobRecord]:
    """The records of all jobs that a sweep has started, by number."""
    found = [JobRecord.read(path) for path in (sweep_dir / "jobs").glob("*.json")]
    return sorted((record for record in found if record), key=lambda record: record.number)
