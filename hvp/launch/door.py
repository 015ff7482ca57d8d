"""The front door's manners: every mistake of a command ends in one sentence.

Hydra composes the config before anything of ours runs; what it finds wrong is told here in the
form of all our errors.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from hydra import compose
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    CompactHydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hvp.errors import ConfigError
from hvp.launch.user_errors import as_sentence
from hvp.text import visible

_CONF = Path(__file__).resolve().parents[2] / "conf"
_EXTRAS = {"submitit": "slurm", "optuna": "sweeps"}  # parts of Hydra's plugins, and ours for them


_OURS = "HVP_HYDRA_FULL_ERROR"  # set while it is we who have set HYDRA_FULL_ERROR


def _raise_what_hydra_would_print() -> None:
    if "HYDRA_FULL_ERROR" not in os.environ:
        os.environ |= {"HYDRA_FULL_ERROR": "1", _OURS: "1"}


def leave_it_to_hydra() -> None:
    """From here on what goes wrong is no mistake of the command: Hydra prints it as ever."""
    if os.environ.pop(_OURS, None) is not None:
        os.environ.pop("HYDRA_FULL_ERROR", None)


@contextmanager
def front_door() -> Iterator[None]:
    """End the process with one sentence where the command is not one that Hydra can compose."""
    arguments = sys.argv[1:]
    _raise_what_hydra_would_print()
    try:
        with one_sentence_errors():
            _check_flags(arguments)
        yield
    except InstantiationException:  # not of the command, but of what it started
        raise
    except (CompactHydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {visible(sentence_of(error, arguments))}")
    except ValueError as error:  # Hydra's own, of a group that is given no name
        if "Config group override must be" not in str(error):
            raise
        sys.exit(f"error: {visible(_no_choice(arguments))}")
    except OSError as error:
        sentence = as_sentence(error)
        if sentence is None:
            raise
        sys.exit(f"error: {sentence}")
    except RuntimeError as error:
        if not type(error).__module__.startswith("submitit"):
            raise
        reason = " ".join(str(error).split())
        sys.exit(
            f"error: hydra/launcher: SLURM did not take the jobs ({visible(reason)}); ask sinfo"
        )
    finally:
        leave_it_to_hydra()


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """End the process at an error that a user can act on, with its sentence."""
    try:
        yield
    except Exception as error:
        sentence = as_sentence(error)
        if sentence is None:
            raise
        sys.exit(f"error: {sentence}")


def sentence_of(error: Exception, arguments: Sequence[str]) -> str:
    """What Hydra or OmegaConf found wrong with a command, in one sentence.

    Args:
        error: what was raised.
        arguments: those of the command.
    """
    if isinstance(error, MissingConfigException):
        return _missing_choice(error, arguments)
    if isinstance(error, OverrideParseException):
        return _not_parsed(error)
    text = " ".join(str(error).split())
    if text.startswith("Ambiguous value"):
        return _ambiguous(text.split("'")[1])
    for argument in arguments:
        key = argument.lstrip("+~").partition("=")[0]
        if f"'{key}'" in text and ("Could not override" in text or "Could not delete" in text):
            return _unknown_key(key, arguments)
        again = f"'{key}'" in text and "Could not append" in text
        if again or (argument.startswith("+") and f"Multiple values for {key}." in text):
            return f"{argument}: {key} exists already; give {argument.lstrip('+')}, without the +"
    return text


def _missing_choice(error: MissingConfigException, arguments: Sequence[str]) -> str:
    """A choice that its group does not have: `logger=tensorbord`."""
    group, _, name = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
    given = next((a for a in arguments if a.lstrip("+").startswith(f"{group}=")), f"{group}={name}")
    for part, extra in _EXTRAS.items():
        if part in name:
            return (
                f"{given}: needs Hydra's plugin for {part}, which is not installed; "
                f"pip install 'hvp[{extra}]' brings it"
            )
    choices = [choice for choice in _choices(group) if not choice.startswith("_")]
    if not choices:
        return " ".join(str(error).split())
    close = get_close_matches(name, choices, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"{given}: {group} has no {name!r}; expected one of {', '.join(choices)}{meant}"


def _not_parsed(error: OverrideParseException) -> str:
    reason = " ".join(str(error.message).split()).partition(" See https")[0]
    if "=" not in error.override:
        return f"{error.override}: expected KEY=VALUE, as in stage=structure or seed=2"
    key, _, value = error.override.partition("=")
    return (
        f"{error.override}: Hydra cannot read this value ({reason}); close its brackets and "
        f"quotes, or quote it, for the shell too: '{key}=\"{value}\"'"
    )


def _ambiguous(argument: str) -> str:
    key, _, value = argument.partition("=")
    return (
        f"{argument}: several values are one job each with -m (python run.py -m {argument}), or "
        f"one list in brackets ('{key}=[{value}]')"
    )


def _no_choice(arguments: Sequence[str]) -> str:
    """A group that is given null or a number: `flow=null`."""
    groups = set(_groups())
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in groups and (value == "null" or value.isdecimal()):
            choices = [choice for choice in _choices(key) if not choice.startswith("_")]
            return f"{argument}: expected one of {', '.join(choices)}; leave it out for the default"
    return "a group was given something else than the name of a choice; --help lists the choices"


def _unknown_key(key: str, arguments: Sequence[str]) -> str:
    """A key or group that there is not: `dataset.rulez.n_past=3`."""
    from hvp.config.checks.command_line import keys
    from hvp.values import did_you_mean

    config = _composed(arguments)
    for n in range(1, key.count(".") + 1):
        above = ".".join(key.split(".")[:n])
        if OmegaConf.select(config, above, default=0) is None:
            return (
                f"{key}: {above} is switched off (null) in this config; choose a file of its group "
                f"that has it, or leave {key} out"
            )
    known = [*keys(config), *_groups()]
    meant = did_you_mean(key, known) or "python run.py --help lists groups and keys"
    return f"unknown key {key}: nothing reads it; {meant}"


def _composed(arguments: Sequence[str]) -> DictConfig:
    """The config with the choices of the command, or where they are at fault the default one."""
    groups = set(_groups())
    chosen = [a for a in arguments if a.partition("=")[0] in groups]
    for overrides in (chosen, []):
        try:
            with _initialised():
                return compose("config", overrides)
        except CompactHydraException:
            continue
    raise AssertionError("the default config does not compose")


def _groups() -> list[str]:
    """Every group, those in groups too (model/structure)."""
    with _initialised():
        loader = GlobalHydra.instance().config_loader()

        def below(parent: str) -> Iterator[str]:
            for name in loader.list_groups(parent):
                group = f"{parent}/{name}" if parent else name
                yield group
                yield from below(group)

        return list(below(""))


def _choices(group: str) -> list[str]:
    with _initialised():
        return sorted(GlobalHydra.instance().config_loader().get_group_options(group))


@contextmanager
def _initialised() -> Iterator[None]:
    """Hydra on the folders of configs, also that of `--config-dir`, which a failed main forgets."""
    if GlobalHydra.instance().is_initialized():
        yield
        return
    folders = create_config_search_path(str(_CONF))
    own = get_args_parser().parse_known_args(sys.argv[1:])[0].config_dir
    if own is not None:
        place = f"file://{Path(own).absolute()}"
        folders.prepend("command-line", place, anchor=SearchPathQuery(provider="schema"))
    Hydra.create_main_hydra2("hvp", folders)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def _check_flags(arguments: Sequence[str]) -> None:
    """Settings are given without dashes: name those that are not Hydra's own flags."""
    parser = get_args_parser()
    flags = list(parser._option_string_actions)
    for argument in arguments:
        flag = argument.partition("=")[0]
        if not flag.startswith("-") or flag in flags or any(f.startswith(flag) for f in flags):
            continue
        setting = argument.lstrip("-")
        setting = setting if "=" in setting else f"{setting}=VALUE"
        raise ConfigError(
            f"{argument}: is no flag (python run.py --hydra-help lists those); settings are given "
            f"without dashes: {setting}"
        )
