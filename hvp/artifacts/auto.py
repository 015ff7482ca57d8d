"""The default store: W&B while the run is online, else the local store.

What an offline run publishes is logged to that run too, so that a later `wandb sync` sends it; and
what a server that went away did not take is kept locally. Both are noted, and
`python -m hvp.artifacts.sync <output_dir>` sends them and checks that they have arrived.

References with `entity/project/` mean W&B. Others are looked up at W&B first, while the run is
online, and then here; an alias that both hold means the version published last.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hvp.artifacts.local import LocalStore
from hvp.artifacts.outbox import Outbox
from hvp.artifacts.store import (
    Artifact,
    ArtifactStore,
    ArtifactType,
    is_version,
    parse_reference,
    split_home,
)
from hvp.artifacts.wandb import WandbStore
from hvp.artifacts.wandb_run import WandbRun
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
        self.remote = WandbStore(run, wandb_root) if self.logged and run.mode == "online" else None

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
        if home:
            return self._remote(reference).fetch(reference, type)
        if self._is_newest_here(reference):
            return self.local.fetch(reference, type)
        return self._remote(reference).fetch(reference, type)

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """See `ArtifactStore.find`."""
        found = self._at_wandb(lambda remote: remote.find(name, type, settings_digest))
        return found or self.local.find(name, type, settings_digest)

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`; what is at W&B is listed while that can be reached."""
        home, _ = split_home(reference)
        if home or not self._is_newest_here(reference):
            return self._remote(reference).lineage(reference)
        found = self.local.lineage(reference)
        known = {artifact.reference for artifact in found}
        for made_from in [i for artifact in found for i in artifact.inputs if split_home(i)[0]]:
            ancestors = self._at_wandb(partial(WandbStore.lineage, reference=made_from)) or []
            found += [a for a in ancestors if a.reference not in known]
            known |= {a.reference for a in ancestors}
        return found

    def _remote(self, reference: str) -> WandbStore:
        if self.remote is None:
            raise ArtifactError(
                f"artifact {reference!r} is at W&B, and this run is not online; "
                "add logger=wandb (and wandb.mode=online), or use artifacts=wandb"
            )
        return self.remote

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
        here = _look_up(self.local, reference)
        if there is None or here is None:
            return there is None
        if is_version(parse_reference(reference)[1]):
            return False
        return _published_at(here) > _published_at(there)


def _look_up(store: ArtifactStore, reference: str) -> Artifact | None:
    try:
        return store.lineage(reference)[0]
    except ServerError:
        raise
    except ArtifactError:
        return None


def _published_at(artifact: Artifact) -> datetime:
    return datetime.fromisoformat(artifact.created.replace("Z", "+00:00"))
