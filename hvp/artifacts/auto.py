"""Artifact store that falls back: W&B while the run is online, else the local store.

An artifact published while W&B is offline or down goes to the local store and into the upload
queue; `python -m hvp.artifacts.sync <output_dir>` uploads it later and checks that it arrived. An
offline run logs it as well, so that `wandb sync` alone sends it too.

References with `entity/project/` mean W&B. Others are looked up at W&B first, while the run is
online, and then locally; an alias that both stores hold means the version published last. While the
server is down, artifacts published to it or fetched from it on this machine come from the cache.
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
from hvp.artifacts.wandb.cache import WandbCache
from hvp.artifacts.wandb.queue import UploadQueue
from hvp.artifacts.wandb.run import WandbRun
from hvp.artifacts.wandb.store import WandbStore
from hvp.errors import ArtifactError, ServerError
from hvp.log import say

_T = TypeVar("_T")


class AutoStore:
    """`ArtifactStore` with fallback from W&B to local files; see the module's docstring.

    Args:
        run: the job's W&B run.
        logged: whether there is a W&B run at all; without one everything is local.
        local_root: directory of the local store.
        wandb_root: directory of the cache of W&B artifacts.
    """

    def __init__(
        self, run: WandbRun, logged: bool, local_root: str | Path, wandb_root: str | Path
    ) -> None:
        self.run = run
        self.logged = logged and run.mode != "disabled"
        self.local = LocalStore(local_root)
        self.online = self.logged and run.mode == "online"
        self.remote = WandbStore(run, wandb_root) if self.online else None
        self.cache = WandbCache(wandb_root, run.entity, run.project)

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
        local_inputs = [reference for reference in inputs if not split_home(reference)[0]]
        if not local_inputs:  # lineage at W&B cannot name artifacts that are not there yet
            published = self._ask_wandb(
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
            UploadQueue(Path(self.run.dir), self.local).add(artifact, self.run)
        return artifact

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """See `ArtifactStore.fetch`."""
        home, _ = split_home(reference)
        if not home and self._is_local(reference):
            return self.local.fetch(reference, type)
        fetched = self._ask_wandb(lambda remote: remote.fetch(reference, type))
        return fetched or self.cache.fetch(reference, type)

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """See `ArtifactStore.find`."""
        found = self._ask_wandb(lambda remote: remote.find(name, type, settings_digest))
        found = found or self.local.find(name, type, settings_digest)
        if found is None and self._server_is_down:
            found = self.cache.find(name, type, settings_digest)
        return found

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`; ancestors at W&B are listed while it can be reached."""
        home, _ = split_home(reference)
        if home or not self._is_local(reference):
            found = self._ask_wandb(lambda remote: remote.lineage(reference))
            return found or self.cache.lineage(reference)
        found = self.local.lineage(reference)
        known = {artifact.reference for artifact in found}
        for made_from in [i for artifact in found for i in artifact.inputs if split_home(i)[0]]:
            ancestors = self._ask_wandb(partial(WandbStore.lineage, reference=made_from))
            if ancestors is None and _look_up(self.cache, made_from):
                ancestors = self.cache.lineage(made_from)
            ancestors = ancestors or []
            found += [a for a in ancestors if a.reference not in known]
            known |= {a.reference for a in ancestors}
        return found

    @property
    def _server_is_down(self) -> bool:
        """Whether the run should be online, but the server does not answer."""
        return self.online and self.remote is None

    def _ask_wandb(self, call: Callable[[WandbStore], _T | None]) -> _T | None:
        """Result of a call of the W&B store; None, with one warning, once the server is down."""
        if self.remote is None:
            return None
        if self.run.opened != "offline":
            reason = self.run.offline_reason()
            if reason is None:
                try:
                    return call(self.remote)
                except ServerError as error:
                    reason = str(error)
        self.remote = None
        if self.run.opened == "online":  # an offline run has said the reason itself
            say(f"warning: artifacts stay here for now: {reason}", style="yellow")
        return None

    def _is_local(self, reference: str) -> bool:
        """Whether a reference without `entity/project/` means a local artifact."""
        there = self._ask_wandb(lambda remote: _look_up(remote, reference))
        if there is None and self._server_is_down:
            there = _look_up(self.cache, reference)
        here = _look_up(self.local, reference)
        if there is None or here is None:
            return there is None
        if is_version(parse_reference(reference)[1]):
            return False
        return _published_at(here) > _published_at(there)


def _look_up(store: ArtifactStore | WandbCache, reference: str) -> Artifact | None:
    try:
        return store.lineage(reference)[0]
    except ServerError:
        raise
    except ArtifactError:
        return None


def _published_at(artifact: Artifact) -> datetime:
    return datetime.fromisoformat(artifact.created.replace("Z", "+00:00"))
