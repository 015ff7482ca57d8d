"""W&B run of a job: one per output directory, opened lazily, resumed after restarts.

A server that is down, slow or unknown costs seconds: the job warns and logs offline, and
`python -m hvp.artifacts.sync <dir>` uploads the log later.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hvp.artifacts.wandb.calls import call_server
from hvp.artifacts.wandb.record import RunRecord, has_api_key, is_reachable, upload_segments
from hvp.errors import ConfigError, ServerError
from hvp.log import rank, say

if TYPE_CHECKING:  # W&B takes a second to import, which runs without it need not wait for
    import wandb


@dataclass(frozen=True)
class WandbRun:
    """Settings of a job's W&B run, with the timeouts of its server."""

    mode: Literal["online", "offline", "disabled"]
    """Offline runs are written to disk for a later sync; `disabled` makes no run."""
    base_url: str
    """Address of the W&B server."""
    entity: str | None
    """User or team; None is the default of the API key."""
    project: str
    """Project of the run and of its artifacts."""
    group: str | None
    """Runs of one group are shown together: the jobs of a sweep, the stages of a dataset."""
    name: str | None
    """Name of the run for people; None leaves it as it is."""
    job_type: str | None
    """The stage."""
    dir: str
    """The job's output directory; everything W&B writes goes below its `wandb/`."""
    init_timeout: float
    """Seconds to wait for the server at the start."""
    finish_timeout: float
    """Seconds to wait at the end for what is still to be uploaded."""
    patience: float
    """Seconds to wait for any other answer of the server, and for a sign of life in an upload or
    download, which may take longer."""

    def __post_init__(self) -> None:
        if self.mode not in ("online", "offline", "disabled"):
            raise ConfigError(f"wandb.mode={self.mode}: choose online, offline or disabled")

    @property
    def opened(self) -> Literal["online", "offline"] | None:
        """Mode of the job's open run; None while none is open."""
        if _job.run is None or _job.settings != self:
            return None
        return "offline" if _job.run.offline else "online"

    def offline_reason(self) -> str | None:
        """Why the server cannot be used from here (no API key, no answer); None where it can."""
        if not has_api_key(self.base_url):
            return f"there is no API key for {self.base_url} (WANDB_API_KEY, or `wandb login`)"
        if not is_reachable(self.base_url, self.patience):
            return f"{self.base_url} does not answer"
        return None

    def open(self) -> "wandb.Run":
        """Open the job's run: the one already open, the one this directory had, or a new one.

        Only on rank zero. Falls back to an offline run, with a warning, when the server cannot
        be used.

        Raises:
            ConfigError: the mode is `disabled`.
        """
        if _job.run is not None and _job.settings == self:
            return _job.run
        if self.mode == "disabled":
            raise ConfigError("wandb.mode=disabled: there is no W&B run; set it to online, offline")
        assert rank() == 0, "the W&B run of a job belongs to rank zero"
        close_run()
        record = RunRecord.of(Path(self.dir), self.base_url, self.entity, self.project)
        record.lock()
        run = self._start(record)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        _job.run, _job.settings, _job.record = run, self, record
        if run.offline:
            say(f"W&B run {run.id}, on disk; later: python -m hvp.artifacts.sync {self.dir}")
        else:
            say(f"W&B run {run.url}")
        return run

    def _start(self, record: RunRecord) -> "wandb.Run":
        import wandb

        self.set_environment()
        offline = self.mode == "offline"
        reason = None if offline else self.offline_reason()
        if (
            not (offline or reason)
            and record.unsent()
            and not upload_segments(record, self.finish_timeout)
        ):
            reason = "what this run logged before could not be sent, and has to come first"
        run = None
        if not (offline or reason):
            try:
                run = self._init("online", record)
            except (wandb.Error, OSError) as error:  # W&B's time-out, a refused key, no network
                reason = " ".join(str(error).split())[:200]
                wandb.teardown()
        if reason:
            say(f"warning: going on without W&B for now: {reason}", style="yellow")
        run = run or self._init("offline", record)
        record.entity = run.entity or record.entity or self.entity
        record.begin(Path(run.settings.sync_dir), run.step)
        return run

    def _init(self, mode: Literal["online", "offline"], record: RunRecord) -> "wandb.Run":
        import wandb

        return wandb.init(
            id=record.id,
            # Without `resume`, sending the same log again replaces what had arrived of it.
            resume="allow" if record.segments else None,
            mode=mode,
            entity=self.entity,
            project=self.project,
            group=self.group,
            name=self.name,
            job_type=self.job_type,
            dir=Path(self.dir).resolve(),
            config=_job.config,
            config_exclude_keys=["wandb"],
            settings=wandb.Settings(
                base_url=self.base_url,
                init_timeout=self.init_timeout,
                finish_timeout=self.finish_timeout,
                finish_timeout_raises=True,
                silent=True,
                console="off",
                disable_code=True,
                x_disable_meta=True,  # it names the paths of this machine: program, root, arguments
            ),
        )

    def set_environment(self) -> None:
        """Set W&B's environment variables: server, timeouts, and directories below `dir`.

        Most of its directories can be set in no other way.
        """
        home = Path(self.dir).resolve()
        (home / "wandb").mkdir(parents=True, exist_ok=True)
        os.environ |= {
            "WANDB_BASE_URL": self.base_url,
            "WANDB_DIR": str(home / "wandb"),
            "WANDB_SILENT": "true",
            "WANDB_HTTP_TIMEOUT": str(max(1, round(self.patience / 2))),  # leaves time for a retry
            "WANDB_INIT_TIMEOUT": str(self.init_timeout),
            "WANDB_FINISH_TIMEOUT": str(self.finish_timeout),
            **{
                f"WANDB_{kind.upper()}_DIR": str(home / "wandb" / kind)
                for kind in ("data", "cache", "config", "artifact")
            },
        }

    def api(self) -> "wandb.Api":
        """W&B's public API for this server.

        Raises:
            ServerError: the server cannot be used from here.
        """
        reason = self.offline_reason()
        if reason is not None:
            raise ServerError(
                f"W&B cannot be reached: {reason}; start again when it can, or use artifacts=local"
            )
        import wandb

        self.set_environment()
        overrides = {"base_url": self.base_url, "project": self.project}
        return call_server(self.base_url, "login", lambda: wandb.Api(overrides), self.patience)


@dataclass
class _Job:
    """State of the current job; a sweep may run several in one process, one after the other."""

    run: "wandb.Run | None" = None
    settings: WandbRun | None = None
    record: RunRecord | None = None
    config: dict[str, Any] | None = None


_job = _Job()


@contextmanager
def job(config: dict[str, Any]) -> Iterator[None]:
    """Context of a job: its W&B run (if any) gets this config, and is finished at the end."""
    _job.config = config
    try:
        yield
    except BaseException:
        close_run(exit_code=1)
        raise
    else:
        close_run()
    finally:
        _job.config = None


def close_run(exit_code: int = 0) -> None:
    """Finish the open run, if any; its record says whether the server received all of it."""
    run, settings, record = _job.run, _job.settings, _job.record
    if run is None or settings is None or record is None:
        return
    _job.run = _job.settings = _job.record = None
    state: Literal["offline", "sent", "unfinished"] = "offline" if run.offline else "sent"
    steps = run.step
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        state = "unfinished"
        say(
            f"warning: W&B did not take all of run {run.id} within "
            f"{settings.finish_timeout:g} s; later: python -m hvp.artifacts.sync {settings.dir}",
            style="yellow",
        )
    record.end(state, steps)
