"""The rooms of the package and their order: nothing climbs, nothing goes in a circle."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT

# The order of the rooms, from the front door down; those of one line do not know each other. A room
# imports from itself and from the lines below its own.
ROOMS = (
    ("stages",),
    ("sweeps",),
    ("launch",),
    ("training",),
    ("reporting",),
    ("evaluation",),
    ("config",),
    ("structure", "image"),
    ("data",),
    ("artifacts",),
    ("metrics", "flow"),
    ("worlds",),
    ("model",),
    ("preview", "clips", "media", "pretrained", "published", "tables", "label_pictures"),
    ("pictures",),
    ("labels", "npz_files", "torch_files"),
    ("os_errors",),
    ("files", "records", "values", "machine_paths"),
    ("log", "ranks", "seeds", "errors", "signals", "precision"),
    ("text",),
)
# Where Hydra's config is known; everything else takes plain values and frozen settings.
CONFIG_ROOMS = ("config", "stages")
# Whatever Hydra or a rank's config file hands over first, before there are settings.
FRONT_DOOR = (
    "hvp.launch.run", "hvp.launch.ranks", "hvp.launch.rank", "hvp.launch.stage", "hvp.sweeps.job",
    "hvp.sweeps.overview", "hvp.sweeps.search", "hvp.launch.door", "hvp.launch.check_first",
    "hvp.launch.directory",
)  # fmt: skip
# Who may talk to the W&B SDK.
WANDB = (
    "hvp.artifacts.wandb.",
    "hvp.artifacts.sync",
    "hvp.reporting.loggers",
    "hvp.stages.dashboard",
)


def modules() -> dict[str, Path]:
    paths = sorted((ROOT / "hvp").rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every import, also those inside functions and of names that are modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges() -> dict[str, set[str]]:
    """Which modules of the package each module imports; a package's `__init__` aside."""
    return {
        name: {
            target
            for target in imported(tree)
            if target in MODULES and target != name and not name.startswith(f"{target}.")
        }
        for name, tree in TREES.items()
    }


def floor(module: str) -> tuple[int, str] | None:
    """Line and name of a module's room; None for the package itself."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    found = [(i, parts[1]) for i, rooms in enumerate(ROOMS) if parts[1] in rooms]
    assert found, f"{module}: its room stands in no line of ROOMS"
    return found[0]


def test_no_import_climbs() -> None:
    climbing = []
    for name, targets in edges().items():
        here = floor(name)
        for target in targets:
            there = floor(target)
            if here and there and here[1] != there[1] and there[0] <= here[0]:
                climbing.append(f"{name} imports {target}")
    assert climbing == []


def test_no_imports_go_in_a_circle_also_not_inside_functions() -> None:
    try:
        TopologicalSorter(edges()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_check_finds_what_climbs_and_what_goes_in_a_circle() -> None:
    tree = ast.parse("def f():\n    from hvp.stages import structure\n")
    assert "hvp.stages.structure" in set(imported(tree))
    below, above = floor("hvp.data.store"), floor("hvp.stages.structure")
    assert below is not None
    assert above is not None
    assert above[0] < below[0]


def test_the_config_ends_at_the_doors_of_the_stages() -> None:
    found = {name for name, tree in TREES.items() if "omegaconf.DictConfig" in set(imported(tree))}
    allowed = {n for n in found if n.split(".")[1] in CONFIG_ROOMS or n in FRONT_DOOR}
    assert found - allowed == set()
    assert allowed


def test_only_those_who_must_talk_to_wandb() -> None:
    found = {
        name
        for name, tree in TREES.items()
        if any(target.split(".")[0].startswith("wandb") for target in imported(tree))
    }
    assert {name for name in found if not name.startswith(WANDB)} == set()
    assert found


def test_no_model_is_known_by_its_class_outside_its_folder() -> None:
    """Stages, callbacks, evaluation and checks ask the interface."""
    families = ("hvp.structure.svg_lp", "hvp.image.vid2vid")
    asking = [
        f"{name} imports {target}"
        for name, targets in edges().items()
        for target in targets
        if target.startswith(families)
        and not name.startswith((*families, "hvp.structure.published"))
    ]
    assert asking == []
