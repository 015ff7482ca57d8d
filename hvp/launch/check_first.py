"""Checks of a command before Hydra makes its directory, so that a mistake leaves nothing."""

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from hvp.errors import ConfigError
from hvp.launch.door import leave_it_to_hydra, one_sentence_errors, sentence_of
from hvp.text import visible

_JOBS_TRIED = 16  # of a sweep, until one has no mistake


class CheckFirst(Callback):
    """Hydra callback: checks the config before Hydra makes the run's directory."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check everything."""
        with _hydra_config(config):
            folder = Path(_folder(config.hydra.run)).absolute()
        with one_sentence_errors():
            _check(config, folder)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """From here on what goes wrong is no mistake of the command."""
        leave_it_to_hydra()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check what all jobs share; each checks its own settings when it starts.

        Where every job is at fault, or as many as are tried, none starts. Jobs of a cluster are
        checked there.
        """
        from hvp.config.checks.launcher import check_slurm
        from hvp.config.checks.places import check_place

        with _hydra_config(config), one_sentence_errors():
            check_slurm(config.hydra.launcher)
            folder = _folder(config.hydra.sweep)
            check_place("hydra.sweep.dir", folder)
        if "Submitit" in str(config.hydra.launcher._target_):
            return
        with one_sentence_errors():
            _check_jobs(config, Path(folder).absolute())


def _check_jobs(config: DictConfig, folder: Path) -> None:
    """Raise the first job's mistake if no job is without one."""
    loader = GlobalHydra.instance().config_loader()
    mistakes = []
    for number, overrides in enumerate(islice(_jobs(config), _JOBS_TRIED)):
        job = loader.load_sweep_config(config, list(overrides))
        with read_write(job.hydra.job), open_dict(job.hydra.job):
            job.hydra.job.num, job.hydra.job.id = number, str(number)
        try:
            _check(job, folder / str(number))
        except ConfigError as mistake:
            mistakes.append(mistake)
        else:
            return
    if mistakes:
        raise mistakes[0]


def _jobs(config: DictConfig) -> Iterator[Sequence[str]]:
    """Overrides of the sweep's jobs; of a search, whose values are not known yet, what is fixed."""
    overrides = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    assert isinstance(overrides, list)
    parsed = OverridesParser.create().parse_overrides([str(o) for o in overrides])
    if str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        for batch in BasicSweeper.split_arguments(parsed, None):
            yield from batch
    else:
        yield [str(o.input_line) for o in parsed if not o.is_sweep_override()]


def _check(config: DictConfig, folder: Path) -> None:
    """Check the config of a run or a job, `hydra` included, whose output directory is `folder`."""
    from hvp.config.checks import check_config  # loads torch

    config, task = copy.deepcopy(config), copy.deepcopy(config)
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder)
    with read_write(task), open_dict(task):
        del task["hydra"]
    with _hydra_config(config):
        check_config(task)


@contextmanager
def _hydra_config(config: DictConfig) -> Iterator[None]:
    """Have resolvers see the config's own `hydra`, which Hydra sets only later."""
    holder = HydraConfig.instance()
    before = holder.cfg
    holder.set_config(config)
    try:
        yield
    finally:
        holder.cfg = before


def _folder(node: DictConfig) -> str:
    """The directory that Hydra is about to make."""
    try:
        return str(node.dir)
    except OmegaConfBaseException as error:
        sys.exit(f"error: {visible(sentence_of(error, ()))}")
