"""Optuna storage of a sweep, synchronised with its job records."""

from pathlib import Path

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from hvp.errors import HVPError
from hvp.sweeps.record import JobRecord


class SweepStorage(InMemoryStorage):
    """Optuna storage in which trial n is job n of the sweep.

    Hydra's sweeper reports only success or failure of a trial. This storage adds the intermediate
    values and the state `PRUNED` from the job's record, so that the sampler learns from pruned
    trials.

    It starts empty: a restarted sweep asks the (seeded) sampler for the same trials again, and
    finished ones return at once from their records.

    Args:
        sweep_dir: directory of the sweep.
    """

    def __init__(self, sweep_dir: str) -> None:
        super().__init__()
        self.sweep_dir = Path(sweep_dir)

    def set_trial_state(self, trial_id: int, state: TrialState) -> bool:
        """Set the final state of a trial, with reports and pruning from its record."""
        if state == TrialState.COMPLETE:
            number = self.get_trial(trial_id).number
            record = JobRecord.read(self.sweep_dir / "jobs" / f"{number}.json")
            if record is not None:
                for step, value in record.reports.items():
                    self.set_trial_intermediate_value(trial_id, step, value)
                if record.state == "pruned":
                    state = TrialState.PRUNED
        return super().set_trial_state(trial_id, state)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Best finished trial.

        Raises:
            HVPError: no trial finished.
        """
        try:
            return super().get_best_trial(study_id)
        except ValueError:
            raise HVPError(
                f"no job of the sweep finished: {self.sweep_dir / 'overview.csv'} says why; "
                "start it again when that is mended"
            ) from None
