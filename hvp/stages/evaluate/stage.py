"""Stage `evaluate`: metrics of both stages against ground truth and baselines, and the report."""

import shlex
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from hvp.artifacts.predictions import PredictedClip
from hvp.artifacts.store import Artifact, ArtifactStore, ArtifactType
from hvp.errors import ConfigError
from hvp.evaluation import distances as d
from hvp.evaluation import measures as m
from hvp.evaluation.curves import IMAGE_MODEL
from hvp.evaluation.folder import PREFIX
from hvp.evaluation.networks import Networks, load_networks, weights_state
from hvp.evaluation.results import Evaluation, load_results, save_results
from hvp.evaluation.runner import Measure, run_measures
from hvp.files import file_digest, settings_digest
from hvp.log import console, say, track
from hvp.reporting.compare import Entry, write_comparison
from hvp.reporting.evaluation_log import log_evaluation
from hvp.reporting.panels import write_panel
from hvp.reporting.report import Ancestor, Report, write_report
from hvp.reporting.summary import summarise, summary_table
from hvp.stages.evaluate.comparison import Inputs, Material
from hvp.stages.evaluate.inputs import open_inputs, open_material

RESULT_FILES = ("report.html", "results.json", "results.csv", "preview.gif")

_PREVIEW_FRAMES = 100  # a GIF is held in memory


def run(config: DictConfig) -> None:
    """Measure, publish results and report, copy them to the output directory, print the table."""
    store = instantiate(config.artifacts)
    if config.evaluate.compare is not None:
        _compare(config, store)
        return
    artifact = None if config.force else find_published(config, store)
    if artifact is not None:
        say(f"evaluate: done for these settings, {artifact.reference}")
    else:
        artifact = _evaluate(config, store)
    show_published(config, store, artifact)


def _compare(config: DictConfig, store: ArtifactStore) -> None:
    """Write `compare.html` of the named evaluations to the output directory."""
    entries = []
    for name in config.evaluate.compare:
        if name.endswith(".json"):
            entries.append(Entry(name, load_results(Path(name))))
        else:
            found = store.fetch(name, ArtifactType.EVALUATION)
            entries.append(Entry(found.reference, load_results(found.path / "results.json")))
    path = Path(config.output_dir) / "compare.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_comparison(path, f"Evaluations on {config.dataset.name}", entries, _command())
    say(f"comparison {path}")


def find_published(config: DictConfig, store: ArtifactStore) -> Artifact | None:
    """The evaluation this stage would publish, when it exists already."""
    return store.find(_name(config), ArtifactType.EVALUATION, _digest(config, store))


def show_published(config: DictConfig, store: ArtifactStore, artifact: Artifact) -> None:
    """Print the table, copy results and report to the output directory, say where all lies."""
    published = store.fetch(artifact.reference).path
    output = Path(config.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    for name in RESULT_FILES:
        shutil.copyfile(published / name, output / name)
    console.print(summary_table(summarise(load_results(output / "results.json"))))
    say(f"report   {output / 'report.html'}")
    say(f"numbers  {output / 'results.json'}, {output / 'results.csv'}")
    if config.evaluate.predictions is None and config.videos is not None:
        say(f"videos   {store.lineage(config.videos)[0].path}")


def _name(config: DictConfig) -> str:
    return f"evaluation-{config.dataset.name}"


def _digest(config: DictConfig, store: ArtifactStore) -> str:
    """Of everything the page depends on: what exactly is evaluated, how, and how it is shown."""
    own = config.evaluate.predictions is None
    named = [config.predictions, config.videos] if own else []
    references = [name for name in (*named, config.evaluate.svg_rgb) if name is not None]
    settings = OmegaConf.to_container(config.evaluate, resolve=True)
    assert isinstance(settings, dict)
    del settings["device"], settings["compare"]
    for key in ("i3d", "lpips", "inception"):
        settings[key] = weights_state(settings[key])
    if not own:
        settings["files"] = _folder_state(config)
        settings["dataset"] = OmegaConf.to_container(config.dataset, resolve=True)
    return settings_digest(
        {
            "stage": "evaluate",
            "inputs": [store.lineage(reference)[0].reference for reference in references],
            "checkpoint": config.checkpoint,
            "evaluate": settings,
        }
    )


def _folder_state(config: DictConfig) -> list[tuple[str, str]]:
    """Name and digest of every file of the evaluated folder."""
    root = Path(config.evaluate.predictions.removeprefix(PREFIX))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path.relative_to(root).as_posix(), file_digest(path)) for path in files]


def _command() -> str:
    """The command that was given."""
    return shlex.join(["python", "run.py", *HydraConfig.get().overrides.task])


def _device(config: DictConfig) -> torch.device:
    name = config.evaluate.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"evaluate.device={name}: cannot be used here ({str(error).splitlines()[0]}); "
            "expected auto, cpu or cuda"
        ) from error


def _evaluate(config: DictConfig, store: ArtifactStore) -> Artifact:
    device, command = _device(config), _command()
    inputs = open_inputs(config, store)
    material = open_material(config, store, inputs, command, device)
    networks = load_networks(
        config.evaluate.i3d,
        config.evaluate.lpips,
        config.evaluate.lpips_backbone,
        device,
        command,
        config.evaluate.inception,
    )
    evaluation = measure(material, networks, config.evaluate.points)
    with TemporaryDirectory() as staged:
        folder = Path(staged)
        save_results(folder, evaluation)
        report = _report(config, store, inputs, material, evaluation)
        write_report(folder / "report.html", report)
        write_panel(
            folder / "preview.gif",
            material.panel(material.clips[0], _best(evaluation, material.clips[0].id)),
            report.space,
            context=material.protocol.context,
            trained=material.protocol.trained_horizon,
            horizon=material.protocol.horizon,
            fps=config.video_fps,
            most_frames=_PREVIEW_FRAMES,
        )
        artifact = store.publish(
            folder,
            name=_name(config),
            type=ArtifactType.EVALUATION,
            metadata={"settings_digest": _digest(config, store)},
            inputs=inputs.references,
            aliases=list(config.aliases),
        )
    shown = (material.panel(clip, _best(evaluation, clip.id)) for clip in _shown(config, material))
    log_evaluation(config, evaluation, material.protocol, report.space, shown)
    return artifact


def measure(material: Material, networks: Networks, points: int) -> Evaluation:
    """Everything that can be measured, and what cannot."""
    protocol, space = material.protocol, material.data.label_space
    missing = [*material.missing, *networks.missing]
    results = []
    n_clips, measured = len(material.clips), material.measured

    def add_fvd(found: list[Measure], *how: Any) -> None:
        if networks.i3d is None:
            return
        try:
            found.append(d.VideoDistance(protocol, networks.i3d, networks.device, points, *how))
        except ConfigError as error:
            missing.append(d.too_short("FVD", error))

    if material.labels is not None:
        label_measures: list[Measure] = [
            m.LabelAgreement(protocol, space, measured),
            m.LabelStatistics(protocol, space, points),
        ]
        add_fvd(label_measures, d.colouriser(space), "_labels")
        clips = track(material.label_clips(), "evaluate label maps", n_clips, "clips")
        found, lacking = run_measures(clips, protocol, label_measures)
        if material.reconstructor is not None:
            found.append(material.reconstructor.result())
        results += found
        missing += lacking
    if material.frames is not None:
        image_measures: list[Measure] = [m.ImageLikeness(protocol, IMAGE_MODEL, measured)]
        if networks.lpips is not None:
            image_measures.append(
                m.PerceptualDistance(
                    protocol, IMAGE_MODEL, networks.lpips, networks.device, measured
                )
            )
        add_fvd(image_measures)
        if networks.inception is not None:
            image_measures.append(d.FrameDistance(protocol, networks.inception, networks.device))
        clips = track(material.image_clips(), "evaluate RGB", n_clips, "clips")
        found, lacking = run_measures(clips, protocol, image_measures)
        results += found
        missing += lacking
    return Evaluation(tuple(results), tuple(dict.fromkeys(missing)))


def _best(evaluation: Evaluation, clip: str) -> int:
    """The sample of a clip that is shown as the best: by mIoU, or by PSNR without label maps."""
    for metric in ("miou", "psnr"):
        result = evaluation.find(metric)
        if result is not None:
            return result.best_samples[metric][clip]
    return 0


def _shown(config: DictConfig, material: Material) -> list[PredictedClip]:
    """The clips that people get to see, evenly spread."""
    n_clips = len(material.clips)
    n_shown = min(config.evaluate.clips_shown, n_clips)
    return [material.clips[i * n_clips // n_shown] for i in range(n_shown)]


def _report(
    config: DictConfig,
    store: ArtifactStore,
    inputs: Inputs,
    material: Material,
    evaluation: Evaluation,
) -> Report:
    ancestors = {
        ancestor.reference: Ancestor(str(ancestor.type), ancestor.reference)
        for reference in inputs.references
        for ancestor in reversed(store.lineage(reference))
    }
    return Report(
        title=f"Long-term prediction on {config.dataset.name}",
        evaluation=evaluation,
        space=material.data.label_space,
        panels=[
            material.panel(clip, _best(evaluation, clip.id)) for clip in _shown(config, material)
        ],
        command=_command(),
        config=OmegaConf.to_yaml(config, resolve=True),
        lineage=list(ancestors.values()),
        fps=config.video_fps,
        most_frames=config.evaluate.frames_shown,
    )
