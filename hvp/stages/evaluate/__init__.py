"""Stage `evaluate`: metrics of both stages against ground truth and baselines, and the report."""

from omegaconf import DictConfig

from hvp.artifacts.store import Artifact
from hvp.config.build import build_store
from hvp.config.digests import plain
from hvp.stages.evaluate.stage import find_published, run


class Evaluate:
    """Measures predictions; see `hvp.launch.stage.Stage`."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config

    def run(self) -> None:
        """Measure, publish and show; what is measured already is only shown."""
        run(self.config)

    def find_published(self) -> Artifact | None:
        """The evaluation this stage would publish, when it exists already."""
        return find_published(self.config, build_store(plain(self.config.artifacts)))
