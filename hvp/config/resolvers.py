"""OmegaConf resolvers of conf/, such as `${hvp.training:max_steps}`; state of the Hydra run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hvp.config.digests import run_digest
from hvp.errors import DataError
from hvp.files import settings_digest
from hvp.labels import CITYSCAPES, DENSEPOSE, LabelSpace, load_label_space

UNREADABLE = (OmegaConfBaseException, AttributeError, KeyError, TypeError, ValueError)
"""What reading settings raises where a group or key is not what it should be."""


def register_resolvers() -> None:
    """Register the resolvers with OmegaConf; idempotent."""
    for name, resolver, use_cache in (
        ("training", _training_value, False),
        ("run_digest", _run_digest, False),
        ("group", _group, False),
        ("choices", _choices, False),
        # Cached by the text of its arguments, so jobs get the value computed for the whole sweep.
        ("sweep_name", _sweep_name, True),
        ("sweep_record", _sweep_record, False),
        ("logs_to_wandb", _logs_to_wandb, False),
        ("n_classes", _n_classes, False),
        ("class_ids", _class_ids, False),
    ):
        OmegaConf.register_new_resolver(f"hvp.{name}", resolver, use_cache=use_cache, replace=True)


def in_sweep() -> bool:
    """Whether this is a Hydra multirun (`-m`)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def sweep_record() -> Path | None:
    """File of the current job's record; None outside of a sweep."""
    if not in_sweep():
        return None
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir) / "jobs" / f"{hydra.job.num}.json"


def slurm_without_sweep() -> bool:
    """Whether this is a single run (no `-m`) with a SLURM launcher."""
    if not HydraConfig.initialized():
        return False
    hydra = HydraConfig.get()
    launcher = str(hydra.launcher.get("_target_", ""))
    return hydra.mode == RunMode.RUN and launcher.endswith("SlurmLauncher")


def launcher() -> dict[str, Any]:
    """Settings of Hydra's launcher (`hydra.launcher`)."""
    settings = OmegaConf.to_container(HydraConfig.get().launcher, resolve=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


def command_line() -> tuple[str, ...]:
    """Command-line overrides, `key=value`; empty outside of Hydra's main."""
    if not HydraConfig.initialized():
        return ()
    # Unresolved: `seed=${other}` is an override, not an interpolation.
    overrides = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(overrides, list)
    return tuple(map(str, overrides))


def search_path() -> list[str]:
    """Override that passes `--config-dir` and `hydra.searchpath` on to another command."""
    if not HydraConfig.initialized():
        return []
    added = [
        f"file://{source.path}" if source.schema == "file" else f"{source.schema}://{source.path}"
        for source in HydraConfig.get().runtime.config_sources
        if source.provider in ("command-line", "hydra.searchpath in command-line")
    ]
    return [f"hydra.searchpath=[{','.join(repr(place) for place in added)}]"] if added else []


def _sweep_record() -> str | None:
    record = sweep_record()
    return None if record is None else str(record)


def _run_digest(*, _root_: DictConfig) -> str:
    """The digest; of settings that have none, which the checks name, just a word."""
    try:
        return run_digest(_root_)
    except UNREADABLE:
        return "unreadable"


def _sweep_name(stage: str, dataset: str, overrides: DictConfig) -> str:
    """Name of a sweep's directory, with a digest of its overrides, so a restart finds its jobs."""
    sweeper = [o for o in overrides.hydra if o.startswith(("hydra/sweeper", "hydra.sweeper"))]
    digest = settings_digest([*overrides.task, *sweeper])[:12]
    return f"sweep-{stage}-{dataset}-{digest}"


def _training_value(key: str, *, _root_: DictConfig) -> Any:
    """Value of `key` of the stage's model; None in stages that do not train."""
    model = _root_.stage.get("model")
    return None if model is None else _root_.model[model][key]


def _group(*, _root_: DictConfig) -> str:
    """W&B group: the runs of a sweep, else of a stage on a dataset."""
    if in_sweep():
        return Path(HydraConfig.get().sweep.dir).name
    return f"{_root_.stage.name}-{_root_.dataset.name}"


def _choices() -> str:
    """Config groups and their options, a line per group, for `--help`.

    Hydra's own list also contains base configs (`_base`).
    """
    loader = GlobalHydra.instance().config_loader()

    def lines(parent: str) -> Iterator[str]:
        for name in sorted(loader.list_groups(parent)):
            group = f"{parent}/{name}" if parent else name
            if group == "hydra":
                continue
            choices = [c for c in loader.get_group_options(group) if not c.startswith("_")]
            if choices:
                yield f"{group}: {', '.join(sorted(choices))}"
            yield from lines(group)

    return "\n".join(lines(""))


def _logs_to_wandb(*, _root_: DictConfig) -> bool:
    """Whether one of the loggers is W&B."""
    return _root_.logger.get("wandb") is not None and _root_.wandb.mode != "disabled"


def _label_space(source: str) -> LabelSpace | None:
    try:
        return load_label_space(source)
    except (DataError, OSError, TypeError):
        return None


def _n_classes(source: str) -> int | None:
    """Number of classes; None for a class file that cannot be read, which the checks name."""
    space = _label_space(source)
    return None if space is None else space.n_classes


def _class_ids(source: str, names: Sequence[str]) -> list[int]:
    """Ids of the named classes in the label space; -1 for names that no label space has.

    So a setting like "car" works for every dataset, and the checks find misspelt names.
    """
    space = _label_space(source)
    if space is None:
        return []
    classes = space.classes
    known = {*CITYSCAPES.classes, *DENSEPOSE.classes, *classes}
    return [
        classes.index(name) if name in classes else -1
        for name in names
        if name in classes or name not in known
    ]
