"""Damaged records of the W&B cache, the upload queue and runs: one sentence names the file."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import Artifact, ArtifactType
from hvp.artifacts.wandb.cache import WandbCache, add_to_cache
from hvp.artifacts.wandb.queue import QueuedArtifact, UploadQueue
from hvp.artifacts.wandb.record import RunRecord
from hvp.errors import ArtifactError, DataError
from hvp.files import write_json
from hvp.sweeps.record import JobRecord
from tests.artifacts.wandb_jobs import files

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
DAMAGED = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.just(b"[" * 100_000),
)
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(DAMAGED)
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    run, queued, job = (
        tmp_path / "wandb" / "run.json",
        tmp_path / "wandb" / "outbox" / "set-v0.json",
        tmp_path / "jobs" / "0.json",
    )
    for path in (run, queued, job):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"run\.json: (not the record of a run|expected)"):
        RunRecord.read(tmp_path)
    with pytest.raises(ArtifactError, match=r"set-v0\.json: (not an entry of the|expected)"):
        UploadQueue(tmp_path, LocalStore(tmp_path)).entries()
    with pytest.raises(DataError, match=r"0\.json: (not the record of a job|expected)"):
        JobRecord.read(job)


@QUICK
@given(DAMAGED)
def test_a_damaged_version_in_the_cache_is_named_and_no_other_taken(
    tmp_path: Path, content: bytes
) -> None:
    cache = WandbCache(tmp_path, "emu", "hvp")
    for number in range(2):
        source = files(tmp_path / "source", str(number))
        add_to_cache(_artifact(tmp_path, f"v{number}"), source)
    record = tmp_path / "emu" / "hvp" / "set" / "v1.json"
    record.write_bytes(content)
    for ask in (lambda: cache.fetch("set"), lambda: cache.find("set", ArtifactType.DATASET, "d")):
        with pytest.raises(
            ArtifactError, match=r"v1\.json: (damaged record|expected readable JSON)"
        ):
            ask()


def _artifact(root: Path, version: str) -> Artifact:
    local = LocalStore(root / "local")
    artifact = local.publish(
        root / "source", name="set", type=ArtifactType.DATASET, metadata={"settings_digest": "d"}
    )
    path = root / "emu" / "hvp" / "set" / version
    return replace(artifact, version=version, path=path, home="emu/hvp/")


def test_half_written_files_are_no_entries_and_go(tmp_path: Path) -> None:
    entry = QueuedArtifact("set", ArtifactType.DATASET, "set:v0", "store", "d", ())
    outbox = tmp_path / "wandb" / "outbox"
    write_json(outbox / "set-v0.json", asdict(entry))
    shutil.copy(outbox / "set-v0.json", outbox / ".set-v1.0a1b2c3d.tmp.json")
    (outbox / ".set-v2.0a1b2c3d.tmp.json").write_text("{")
    assert UploadQueue(tmp_path, LocalStore(tmp_path)).entries() == [entry]

    files(tmp_path / "source", "0")
    artifact = _artifact(tmp_path, "v0")
    half = [
        artifact.path / ".index.0a1b2c3d.tmp.json",
        artifact.path / "clips" / ".a.0a1b2c3d.tmp.npz",
    ]
    of_another = artifact.path.parent / ".v1.0a1b2c3d.tmp.json"  # which may be alive
    for path in (*half, of_another):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    add_to_cache(artifact, tmp_path / "source")
    assert not any(path.exists() for path in half)
    assert of_another.exists()
