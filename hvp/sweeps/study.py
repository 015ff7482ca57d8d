"""The Optuna study of a sweep, kept in step with the records of its jobs."""

from pathlib import Path

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from hvp.errors import HVPError
from hvp.sweeps.record import JobRecord


class SweepStorage(InMemoryStorage):
    """Storage of a study whose trials are the jobs of a sweep: trial n is job n.

    Hydra's sweeper tells a study only how a trial ended, and of all ends only success and failure.
    This storage adds from the job's record what was reported during the training, and that a
    pruned trial was pruned, so that the sampler learns from it as from any other pruned trial.

    It starts empty each time: a sweep that is started again asks the (seeded) sampler for the same
    trials again, and those that are done answer at once from their records.

    Args:
        sweep_dir: the sweep's directory.
    """

    def __init__(self, sweep_dir: str) -> None:
        super().__init__()
        self.sweep_dir = Path(sweep_dir)

    def set_trial_state(self, trial_id: int, state: TrialState) -> bool:
        """Note the end of a trial as its record tells it."""
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
        """The best trial that finished.

        Raises:
            HVPError: none did.
        """
        try:
            return super().get_best_trial(study_id)
        except ValueError:
            raise HVPError(
                f"no job of the sweep finished: {self.sweep_dir / 'overview.csv'} says why; "
                "start it again when that is mended"
            ) from None
