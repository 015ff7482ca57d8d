"""W&B artifact store: artifacts published on one machine are fetched by name on another.

Every artifact is a W&B artifact with the same name, versions, aliases and metadata; its inputs are
in W&B's lineage graph. Beside the published files it holds `.hvp/manifest.json`, the SHA-256 of
each and the exact inputs, which W&B itself does not keep; the manifest's digest is in the metadata.
Files are read from the cache, `<root>/<entity>/<project>/<name>/<version>`: downloads go there, and
so do copies of the files published from this machine.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from hvp.artifacts.staging import staging_directory
from hvp.artifacts.store import (
    LATEST,
    Artifact,
    ArtifactType,
    FileEntry,
    check_alias,
    check_name,
    check_type,
    is_version,
    parse_reference,
    plain_metadata,
    split_home,
    verify_files,
)
from hvp.artifacts.wandb.cache import add_to_cache, is_complete
from hvp.artifacts.wandb.calls import call_server, transfer_seconds
from hvp.artifacts.wandb.manifest import (
    MANIFEST,
    draft_artifact,
    make_manifest,
    manifest_digest,
    read_manifest,
)
from hvp.artifacts.wandb.run import WandbRun
from hvp.errors import ArtifactError, ServerError

if TYPE_CHECKING:
    import wandb

_T = TypeVar("_T")
_PAGE = 50  # versions of a listing that one request asks for


class WandbStore:
    """`ArtifactStore` at W&B; see the module's docstring.

    Publishing and fetching open the job's W&B run, which only rank zero has; the other ranks get
    its answers (hvp/artifacts/rank_store.py).

    Args:
        run: the job's run; names without `entity/project/` are looked up in its project.
        root: directory of the cache; shared by all jobs, safe to delete.
    """

    def __init__(self, run: WandbRun, root: str | Path) -> None:
        self.run = run
        self.root = Path(root).resolve()
        self._api: wandb.Api | None = None
        self._entity = run.entity

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
        check_name(name)
        for alias in aliases:
            check_alias(alias)
        plain = plain_metadata(metadata, name)
        manifest = make_manifest(source, name, ArtifactType(type), plain, inputs)
        sources = [self._find_input(reference) for reference in inputs]
        run = self._online_run()
        for made_from in sources:
            if self._logged_by(made_from) != run.id:  # the graph knows this run's own artifacts
                self._call(f"lineage of {name}", partial(run.use_artifact, made_from))
        with staging_directory(self.root) as staged:
            draft = draft_artifact(source, staged, manifest, plain)
            names = [alias for alias in aliases if alias != LATEST]
            logged = self._call(
                f"upload of {name}",
                lambda: run.log_artifact(draft, aliases=names).wait(),
                transfer_seconds(draft),
            )
        artifact = self._read(logged)
        with self._download_lock(artifact.path):
            add_to_cache(artifact, source)
        return artifact

    def fetch(self, reference: str, type: ArtifactType | None = None) -> Artifact:
        """See `ArtifactStore.fetch`."""
        found = self._resolve(reference)
        check_type(_reference(found), found.type, type)
        run = self._online_run()
        if self._logged_by(found) != run.id:
            self._call(reference, lambda: run.use_artifact(found))
        return self.download(found)

    def download(self, found: "wandb.Artifact") -> Artifact:
        """Download a version, every byte verified; files already in the cache are not downloaded.

        Raises:
            ArtifactError: the files differ from those published.
            ServerError: W&B failed.
        """
        artifact = self._read(found)
        with self._download_lock(artifact.path):
            if not is_complete(artifact):
                self._call(
                    f"download of {artifact.reference}",
                    lambda: found.download(root=str(artifact.path), skip_cache=True),
                    transfer_seconds(found),
                )
            verify_files(artifact, "it was changed at W&B or on the way; publish it again")
            add_to_cache(artifact)
        return artifact

    def find(self, name: str, type: ArtifactType, settings_digest: str) -> Artifact | None:
        """See `ArtifactStore.find`."""
        check_name(name)
        for version in self._versions(name, type):
            if version.metadata.get("settings_digest") == settings_digest:
                return self._read(version)
        return None

    def lineage(self, reference: str) -> list[Artifact]:
        """See `ArtifactStore.lineage`."""
        found: dict[str, Artifact] = {}
        queue = [self._resolve(reference)]
        for following in queue:
            artifact = self._read(following)
            if artifact.reference not in found:
                found[artifact.reference] = artifact
                queue.extend(self._find_input(r, artifact.home) for r in artifact.inputs)
        return list(found.values())

    def find_manifest(self, name: str, type: ArtifactType, digest: str) -> "wandb.Artifact | None":
        """The newest version of `name` whose manifest has that digest."""
        for version in self._versions(name, type):
            if version.metadata.get("manifest_digest") == digest:
                return version
        return None

    def link_inputs(self, inputs: Sequence[str], run_id: str) -> None:
        """Add `inputs` of a run to W&B's lineage graph, which an offline run cannot do."""
        run = self._call(run_id, lambda: self.api.run(f"{self.home}{run_id}"))
        for made_from in map(self._find_input, inputs):
            if self._logged_by(made_from) != run_id:
                self._call(run_id, partial(run.use_artifact, made_from))

    # Names and calls

    @property
    def home(self) -> str:
        """`entity/project/` of names given without it."""
        if self._entity is None:
            self._entity = self._call("default entity", lambda: self.api.default_entity)
        return f"{self._entity}/{self.run.project}/"

    @property
    def api(self) -> "wandb.Api":
        """W&B's public API."""
        if self._api is None:
            self._api = self.run.api()
        return self._api

    def _online_run(self) -> "wandb.Run":
        run = self.run.open()
        if run.offline:
            raise ServerError(
                "artifacts=wandb needs a run that is online, and this one is not: an offline run "
                "cannot read artifacts back. Use artifacts=auto, which keeps them here as well"
            )
        return run

    def _resolve(self, reference: str) -> "wandb.Artifact":
        """W&B's artifact for a reference."""
        home, rest = split_home(reference)
        name, selector = parse_reference(rest)
        full = f"{home or self.home}{name}:{selector}"
        try:
            return self._call(full, lambda: self.api.artifact(full), expected=(ValueError,))
        except ValueError as error:  # raised by W&B where there is none
            raise ArtifactError(
                f"artifact {full!r}: W&B at {self.run.base_url} has no such artifact or version; "
                "run the stage that publishes it or correct the reference "
                f"({' '.join(str(error).split())[:200]})"
            ) from error

    def _find_input(self, reference: str, home: str = "") -> "wandb.Artifact":
        """W&B's artifact for an input: `name:v3`, or `name@digest` if it was published offline.

        `name@digest` is the version of `name` whose manifest has that digest.
        """
        name, at, digest = reference.partition("@")
        if at:
            for type in ArtifactType:
                found = self.find_manifest(name, type, digest)
                if found is not None:
                    return found
            raise ArtifactError(
                f"input {reference!r}: not at W&B; it was made offline, and "
                "`python -m hvp.artifacts.sync` of its output directory has not sent it yet"
            )
        where, rest = split_home(reference)
        if not is_version(parse_reference(rest)[1]):
            raise ArtifactError(
                f"input {reference!r}: lineage must name the version that was read, which an alias "
                "does not; pass the `reference` of the fetched artifact"
            )
        return self._resolve(f"{where or home}{rest}")

    def _versions(self, name: str, type: ArtifactType) -> Iterator["wandb.Artifact"]:
        """Versions of `name`, newest first; none where W&B has no such name or type.

        Pages are asked for one by one, as W&B lists the newest first; should it not, all at once.
        """
        path, api = f"{self.home}{name}", self.api
        if not self._call(
            path, lambda: api.artifact_collection_exists(path, ArtifactType(type).value)
        ):
            return
        pages = api.artifacts(ArtifactType(type).value, path, per_page=_PAGE)
        listing = (version for version in pages)  # the pages themselves begin anew when iterated
        last = math.inf
        while page := self._call(path, lambda: list(islice(listing, _PAGE))):
            numbers = [int(version.version[1:]) for version in page]
            if [last, *numbers] != sorted([last, *numbers], reverse=True):
                page += self._call(path, lambda: list(listing))
                page.sort(key=lambda version: -int(version.version[1:]))
            last = numbers[-1]
            yield from page

    def _logged_by(self, found: "wandb.Artifact") -> str | None:
        run = self._call(_reference(found), found.logged_by)
        return None if run is None else str(run.id)

    def _call(
        self,
        what: str,
        call: Callable[[], _T],
        seconds: float = 0.0,
        expected: tuple[type[Exception], ...] = (),
    ) -> _T:
        return call_server(self.run.base_url, what, call, self.run.patience, seconds, expected)

    # Reading

    def _read(self, found: "wandb.Artifact") -> Artifact:
        """The artifact as its manifest describes it; only the manifest is downloaded."""
        home = f"{found.entity}/{found.project}/"
        name = found.source_name.partition(":")[0]
        path = self.root / home / name / found.version
        expected = found.metadata.get("manifest_digest")
        manifest_path = path / MANIFEST
        with self._download_lock(path):
            if (
                not manifest_path.exists()
                or manifest_digest(read_manifest(manifest_path)) != expected
            ):
                if MANIFEST not in self._call(_reference(found), lambda: found.manifest).entries:
                    raise ArtifactError(
                        f"artifact {_reference(found)!r} at W&B was not published by hvp (it has "
                        f"no {MANIFEST}); name one that a stage has published"
                    )
                entry = found.get_entry(MANIFEST)
                self._call(
                    _reference(found), lambda: entry.download(root=str(path), skip_cache=True)
                )
            manifest = read_manifest(manifest_path)
        if manifest_digest(manifest) != expected:
            raise ArtifactError(
                f"{manifest_path}: not the manifest that {_reference(found)!r} was published with "
                f"(expected digest {expected}, found {manifest_digest(manifest)}); publish it again"
            )
        return Artifact(
            name=name,
            type=ArtifactType(found.type),
            version=found.version,
            aliases=tuple(found.aliases),
            metadata={k: v for k, v in found.metadata.items() if k != "manifest_digest"},
            inputs=tuple(manifest["inputs"]),
            files={file: FileEntry(**entry) for file, entry in manifest["files"].items()},
            created=found.created_at,
            path=path,
            home=home,
        )

    def _download_lock(self, path: Path) -> FileLock:
        """Lock of one version in the cache, against other processes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_suffix(".lock"))


def _reference(found: "wandb.Artifact") -> str:
    return str(found.qualified_name)
