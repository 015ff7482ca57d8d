"""Job of a sweep (Hydra multirun, `python run.py -m ...`), resumable.

A sweep that is started again in the same directory skips the jobs that are done according to their
records; the others resume from their checkpoints.
"""

import math
import shutil
import time
import traceback
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hvp.config.checks import check_config
from hvp.config.digests import job_digest
from hvp.config.resolvers import sweep_record
from hvp.errors import ConfigError, DataError, HVPError
from hvp.files import unfinished
from hvp.launch.directory import at_work
from hvp.launch.run import run_stage
from hvp.launch.stage import build_stage
from hvp.launch.user_errors import as_sentence
from hvp.log import say
from hvp.sweeps.overview import write_csv
from hvp.sweeps.record import JobRecord
from hvp.text import visible
from hvp.training.trained_stage import TrainedStage


class SweepMismatch(ConfigError):
    """Error: the sweep directory holds a job with the same number and other settings."""


def run_sweep_job(config: DictConfig) -> float | None:
    """Run the stage as a job of the sweep, unless it is done; returns the value of `sweep.metric`.

    A job that fails is recorded and does not end the sweep; it returns None, as do stages that do
    not train.

    Raises:
        SweepMismatch: the directory of this job belongs to a job with other settings.
    """
    path = sweep_record()
    assert path is not None
    try:
        check_config(config)
    except ConfigError as error:
        _refuse(config, path, error)
        return None
    with at_work(config):
        return _run_or_skip(config, path)


def _refuse(config: DictConfig, path: Path, error: ConfigError) -> None:
    """Record a job whose settings are wrong; nothing but its record is left."""
    _end(replace(_open_record(config, path), state="failed", error=str(error)), path)
    folder = Path(config.output_dir)
    if {inner.name for inner in folder.iterdir()} <= {".hydra"}:
        shutil.rmtree(folder)


def _run_or_skip(config: DictConfig, path: Path) -> float | None:
    record = _open_record(config, path)
    if record.done:
        shown = "" if record.value is None else f", {record.metric} {record.value:.6g}"
        say(f"job {record.number}: {record.state} before{shown}; skipped")
        return record.value
    started = time.monotonic()
    try:
        ended = _run(config, path)
    except Exception as error:  # a failed job does not end the sweep
        message = _error_message(error, record.number, Path(config.output_dir))
        ended = replace(_reread(path), state="failed", error=message)
    _end(replace(ended, seconds=ended.seconds + time.monotonic() - started), path)
    return ended.value


def _end(record: JobRecord, path: Path) -> None:
    record.write(path)
    write_csv(path.parents[1])
    if record.state == "failed":
        say(f"job {record.number} failed: {record.error}", style="red")


def _open_record(config: DictConfig, path: Path) -> JobRecord:
    """Read the record of this job, or create it."""
    hydra = HydraConfig.get()
    record = JobRecord(
        number=hydra.job.num,
        overrides=tuple(hydra.overrides.task),
        settings=job_digest(config),
        output_dir=config.output_dir,
        metric=config.sweep.metric,
    )
    for leftover in unfinished(path.parent, f".{path.stem}.*"):  # of a killed process
        leftover.unlink()
    known = JobRecord.read(path)
    if known is not None and known.settings != record.settings:
        raise SweepMismatch(
            f"{path}: job {known.number} of this sweep directory was "
            f"{' '.join(known.overrides)!r} and is now {' '.join(record.overrides)!r}, with other "
            "settings; start the sweep as before, or give it a new hydra.sweep.dir"
        )
    if known is not None and not config.force and known.metric == record.metric:
        if known.done:
            return known
        record = replace(
            record,
            reports=known.reports,
            pruner_state=known.pruner_state,
            seconds=known.seconds,
        )
    record.write(path)
    return record


def _run(config: DictConfig, path: Path) -> JobRecord:
    """Run the stage; returns the final record."""
    run_stage(config)
    record = _reread(path)  # SweepReporter has updated it
    if record.state == "pruned":
        return record
    value, metrics = None, _trained_metrics(config)
    if config.sweep.metric is not None and metrics is not None:
        value = metrics.get(config.sweep.metric)
        if value is None and any(name.startswith("val/") for name in metrics):
            raise ConfigError(
                f"sweep.metric={config.sweep.metric}: the training did not measure it; choose one "
                f"of {', '.join(sorted(metrics)) or '(none)'}"
            )
        if value is not None and not math.isfinite(value):
            raise HVPError(f"{config.sweep.metric} ended as {value}: the training diverged")
    return replace(record, state="finished", value=value, metrics=metrics or {})


def _trained_metrics(config: DictConfig) -> dict[str, float] | None:
    """Validation metrics of the model that this job trained, or found trained.

    A model that was published without them, or without the one that ranks, is validated again.
    """
    stage = build_stage(config)
    if not isinstance(stage, TrainedStage) or not config.fit:
        return None
    metrics = stage.find_metrics()
    if metrics is None or config.sweep.metric in (None, *metrics):
        return metrics
    return {**metrics, **stage.measure()}


def _reread(path: Path) -> JobRecord:
    record = JobRecord.read(path)
    if record is None:
        raise DataError(f"{path}: the record of a running job is gone; start the sweep again")
    return record


def _error_message(error: Exception, number: int, folder: Path) -> str:
    """One-line error message; the traceback of an unexpected error is printed."""
    sentence = as_sentence(error, [folder])
    if sentence is None:
        say(f"job {number}:")
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line)
        return visible(" ".join(f"{type(error).__name__}: {error}".split()))
    return str(sentence)
