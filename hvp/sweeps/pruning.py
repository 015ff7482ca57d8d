"""Pruning callback: reports a sweep job's metric and stops the job when the pruner says so."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from hvp.errors import ConfigError, DataError, TrainingPruned
from hvp.sweeps.record import JobRecord, read_records

if TYPE_CHECKING:  # an optional extra
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial


class SweepReporter(Callback):
    """Pruning callback: reports the metric after each validation and asks the pruner.

    The pruner compares with the reports in the records of the sweep's other jobs, on any machine.

    Args:
        record: file of the job's record; None (outside of a sweep) switches the callback off.
        metric: metric to report.
        direction: `minimize` or `maximize`.
        pruner: Optuna pruner; None prunes no job.
    """

    def __init__(
        self,
        record: str | None,
        metric: str | None,
        direction: str,
        pruner: "BasePruner | None",
    ) -> None:
        self.record = None if record is None else Path(record)
        self.metric = metric
        self.direction = direction
        self.pruner = pruner

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report; raise `TrainingPruned` on all ranks if the job is pruned."""
        if self.record is None or self.metric is None or trainer.state.fn != "fit":
            return
        if trainer.sanity_checking:
            return
        pruned = trainer.is_global_zero and self._report(trainer, self.record, self.metric)
        if trainer.strategy.broadcast(pruned):
            raise TrainingPruned(
                f"pruned at step {trainer.global_step}: by {self.metric} other jobs of the sweep "
                "were better there"
            )

    def _report(self, trainer: pl.Trainer, path: Path, metric: str) -> bool:
        """Write the metric to the record; returns whether the job is pruned."""
        record = JobRecord.read(path)
        if record is None:
            raise DataError(f"{path}: the record of a running job is gone; start the sweep again")
        if metric not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(f"sweep.metric={metric}: not measured at validation; it has {known}")
        value = float(trainer.callback_metrics[metric])
        record = replace(record, reports={**record.reports, trainer.global_step: value})
        pruned = False
        if self.pruner is not None:
            others = [r for r in read_records(path.parents[1]) if r.number != record.number]
            pruned, state = should_prune(self.pruner, self.direction, record, others)
            record = replace(record, pruner_state=state)
        if pruned:
            metrics = {name: float(v) for name, v in trainer.callback_metrics.items()}
            record = replace(record, state="pruned", value=value, metrics=metrics)
        record.write(path)
        return pruned


def should_prune(
    pruner: "BasePruner", direction: str, job: JobRecord, others: Sequence[JobRecord]
) -> tuple[bool, dict[str, float]]:
    """Whether `pruner` gives `job` up, and what it wants to remember about the job.

    Args:
        pruner: one of Optuna's.
        direction: `minimize` or `maximize`.
        job: the job that runs, with what it reported until now.
        others: the other jobs of the sweep.
    """
    import optuna
    from optuna.exceptions import ExperimentalWarning

    by_number = {record.number: record for record in (*others, job)}
    with warnings.catch_warnings(), _quiet_optuna():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study = optuna.create_study(study_name="sweep", direction=direction, pruner=pruner)
        for number in range(max(by_number) + 1):  # a trial's number is its position
            study.add_trial(_trial(by_number.get(number), is_running=number == job.number))
        pruned = pruner.prune(study, study.get_trials(deepcopy=False)[job.number])
    return pruned, study.get_trials(deepcopy=False)[job.number].system_attrs


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silence Optuna's log line per study."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _trial(record: JobRecord | None, is_running: bool) -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    if record is None or record.state == "failed":
        return create_trial(state=TrialState.FAIL)
    states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    state = TrialState.RUNNING if is_running else states.get(record.state, TrialState.RUNNING)
    return create_trial(
        state=state,
        value=record.value if state == TrialState.COMPLETE else None,
        intermediate_values=record.reports,
        system_attrs=record.pruner_state,
    )
