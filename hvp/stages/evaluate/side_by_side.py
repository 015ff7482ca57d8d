"""Comparison page of finished evaluations (`evaluate.compare`)."""

from pathlib import Path

from hvp.artifacts.store import ArtifactStore, ArtifactType
from hvp.evaluation.results import load_results
from hvp.log import say
from hvp.machine_paths import without_machine_paths
from hvp.reporting.compare import Entry, write_comparison
from hvp.stages.evaluate.settings import EvaluationSettings


def compare(settings: EvaluationSettings, store: ArtifactStore, command: str) -> None:
    """Write the comparison page `compare.html` to the output directory."""
    entries: list[Entry] = []
    for name in settings.compare or ():
        if name.endswith(".json"):
            shown = without_machine_paths(name, settings.work_dir)
            same = sum(entry.name.partition(" (")[0] == shown for entry in entries)
            shown += f" ({same + 1})" if same else ""
            entries.append(Entry(shown, load_results(Path(name))))
        else:
            found = store.fetch(name, ArtifactType.EVALUATION)
            entries.append(Entry(found.reference, load_results(found.path / "results.json")))
    path = settings.output_dir / "compare.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_comparison(path, f"Evaluations on {settings.dataset}", entries, command)
    say(f"comparison {path}")
