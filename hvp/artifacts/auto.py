"""The default store: W&B while the run is online, else the local store.

What an offline run publishes is logged to that run too, so that a later `wandb sync` sends it; and
what a server that went away did not take is kept locally. Both are noted, and
`python -m hvp.artifacts.sync <output_dir>` sends them and checks that they have arrived.

References with `entity/project/` mean W&B. Others are looked up at W&B first, while the run is
online, and then here; an alias that both hold means the version published last. While W&B is away,
what was published there from here, or fetched, is read from the copies that were kept.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import (
    Artifact,
    ArtifactStore,
    ArtifactType,
    is_version,
    parse_reference,
    split_home,
)
from hvp.artifacts.wandb.cache import KeptArtifacts
from hvp.artifacts.wandb.queue import Outbox
from hvp.artifacts.wandb.run import WandbRun
from hvp.artifacts.wandb.store import WandbStore
from hvp.errors import ArtifactError, ServerError
from hvp.log import say

_T = TypeVar("_T")


class AutoStore:
    """An `ArtifactStore` that needs no server; see the module's docstring.

    Args:
        run: the job's W&B run.
        logged: whether there is a W&B run at all; without one everything is local.
        local_root: directory of the local store.
        wandb_root: where artifacts fetched from W&B are kept.
    """

    def __init__(
        self, run: WandbRun, logged: bool, local_root: str | Path, wandb_root: str | Path
    ) -> None:
        self.run = run
        self.logged = logged and run.mode != "disabled"
        self.local = LocalStore(local_root)
        self.online = self.logged and run.mode == "online"
        self.remote = WandbStore(run, wandb_root) if self.online else None
        self.kept = KeptArtifacts(wandb_root, run.entity, run.project)

    def publish(
        self,
        source: Path,
        *,
        name: str,
        type: ArtifactType,
        metadata: Mapping[str, Any],
        inputs: Sequence[str] = (),
        aliases: Sequence[str] = (),
    ) -> Artifact:
        """See `ArtifactStore.publish`."""
        made_here = [reference for reference in inputs if not split_home(reference)[0]]
        if not made_here:  # W&B cannot show what was made from things it does not have yet
            published = self._at_wandb(
                lambda remote: remote.publish(
                    source, name=name, type=type, metadata=metadata, inputs=inputs, aliases=aliases
                )
            )
            if published is not None:
                return published
        artifact = self.local.publish(
            source, name=name, type=type, metadata=metadata, inputs=inputs, aliases=aliases
        )
        if self.logged:
            Outbox(Path(self.run.dir), self.local).add(artifact, self.run)
        return artifact

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """See `ArtifactStore.fetch`."""
        home, _ = split_home(reference)
        if not home and self._is_newest_here(reference):
            return self.local.fetch(reference, type)
        fetched = self._at_wandb(lambda remote: remote.fetch(reference, type))
        return fetched or self.kept.fetch(reference, type)

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """See `ArtifactStore.find`."""
        found = self._at_wandb(lambda remote: remote.find(name, type, settings_digest))
        found = found or self.local.find(name, type, settings_digest)
        if found is None and self._is_away:
            found = self.kept.find(name, type, settings_digest)
        return found

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`; what is at W&B is listed as far as that can be reached."""
        home, _ = split_home(reference)
        if home or not self._is_newest_here(reference):
            found = self._at_wandb(lambda remote: remote.lineage(reference))
            return found or self.kept.lineage(reference)
        found = self.local.lineage(reference)
        known = {artifact.reference for artifact in found}
        for made_from in [i for artifact in found for i in artifact.inputs if split_home(i)[0]]:
            ancestors = self._at_wandb(partial(WandbStore.lineage, reference=made_from))
            if ancestors is None and _look_up(self.kept, made_from):
                ancestors = self.kept.lineage(made_from)
            ancestors = ancestors or []
            found += [a for a in ancestors if a.reference not in known]
            known |= {a.reference for a in ancestors}
        return found

    @property
    def _is_away(self) -> bool:
        """Whether there is a W&B that does not answer."""
        return self.online and self.remote is None

    def _at_wandb(self, ask: Callable[[WandbStore], _T | None]) -> _T | None:
        """What W&B answers; None, said once, from when on it does not answer any more."""
        if self.remote is None:
            return None
        if self.run.opened != "offline":
            reason = self.run.why_not_online()
            if reason is None:
                try:
                    return ask(self.remote)
                except ServerError as error:
                    reason = str(error)
        self.remote = None
        if self.run.opened == "online":  # else the run says why it is not
            say(f"warning: artifacts stay here for now: {reason}", style="yellow")
        return None

    def _is_newest_here(self, reference: str) -> bool:
        """Whether a reference without a home means a local artifact."""
        there = self._at_wandb(lambda remote: _look_up(remote, reference))
        if there is None and self._is_away:
            there = _look_up(self.kept, reference)
        here = _look_up(self.local, reference)
        if there is None or here is None:
            return there is None
        if is_version(parse_reference(reference)[1]):
            return False
        return _published_at(here) > _published_at(there)


def _look_up(store: ArtifactStore | KeptArtifacts, reference: str) -> Artifact | None:
    try:
        return store.lineage(reference)[0]
    except ServerError:
        raise
    except ArtifactError:
        return None


def _published_at(artifact: Artifact) -> datetime:
    return datetime.fromisoformat(artifact.created.replace("Z", "+00:00"))
