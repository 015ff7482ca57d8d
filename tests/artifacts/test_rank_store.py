"""Ranks that do not see the same: all of them get what rank zero gets."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.rank_store import RankStore
from hvp.errors import ArtifactError, HVPError
from tests.artifacts.wandb_jobs import await_half_way, end, go_on, start
from tests.wandb_server import WandbServer

PRELUDE = """
    from hvp.artifacts.local import LocalStore
    from hvp.artifacts.rank_store import RankStore
    from hvp.log import rank
    def publish(text, type, inputs=()):
        source = here / "made" / text
        if rank() == 0:  # other ranks have nothing to publish
            files(source, text)
        return store.publish(source, name=text, type=type, inputs=inputs,
                             metadata={"settings_digest": text, "loss": float("nan")}).reference
"""
# The only rank that sees the server loses it half way.
OUTAGE = """
    store = RankStore(auto_store(here), here / "answers", timeout=30)
    seen = []
    with job({}):
        seen.append(store.find("clips", T.DATASET, "clips") is None)
        seen.append(publish("clips", T.DATASET))
        print("half way", flush=True)
        sys.stdin.readline()
        if rank() == 0:
            publish("weights", T.CHECKPOINT, inputs=[seen[-1]])  # as at the end of a training
        found = store.find("weights", T.CHECKPOINT, "weights")
        seen += [found.reference, (store.fetch(found.reference).path / "index.json").read_text()]
        seen.append([artifact.reference for artifact in store.lineage(found.reference)])
        began = time.monotonic()
    print(json.dumps(seen))
"""
# No server: what the class itself promises.
LOCAL = """
    store = RankStore(LocalStore(here / "local"), here / "answers", timeout=0.3)
    seen = []
    for ask in (lambda: publish("clips", T.DATASET), lambda: store.fetch("clips").reference,
                lambda: store.fetch("clips:best")):
        try:
            seen.append(ask())
        except ArtifactError as error:
            seen.append(str(error))
    print(json.dumps(seen))
"""


def job_rank(
    server: WandbServer | None, directory: Path, code: str, rank: int, **variables: str
) -> subprocess.Popen[str]:
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    wait = '{"finish_timeout": 2}'
    return start(server, directory, PRELUDE + code, TEST_WAIT=wait, **ranks, **variables)


def test_a_rank_that_never_sees_the_server_has_the_artifacts_of_one_that_loses_it(
    tmp_path: Path,
) -> None:
    launch = {"TORCHELASTIC_RUN_ID": "one"}
    with WandbServer(tmp_path / "server") as server:
        nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
        ranks = [
            job_rank(server, tmp_path / "job", OUTAGE, 0, **launch),
            job_rank(server, tmp_path / "job", OUTAGE, 1, **launch, **nowhere),
        ]
        for each in ranks:
            await_half_way(each)
        server.stop()
        began = time.monotonic()
        for each in ranks:
            go_on(each)
        zero, one = (end(each)[0] for each in ranks)
    assert time.monotonic() - began < 40
    assert zero == one
    assert zero[:3] == [True, "emu/hvp/clips:v0", "weights:v0"]
    assert json.loads(zero[3]) == {"text": "weights"}
    assert len(server.runs) == 1


def test_ranks_fail_alike_and_none_takes_the_answers_of_another_launch(tmp_path: Path) -> None:
    def seen(rank: int, launch: str) -> list[str]:
        job = job_rank(None, tmp_path, LOCAL, rank, TORCHELASTIC_RUN_ID=launch)
        answers: list[str] = end(job)[0]
        return answers

    zero = seen(0, "one")
    assert zero[:2] == ["clips:v0", "clips:v0"]
    assert "'clips:best'" in zero[2]
    assert seen(1, "one") == zero
    assert all("rank zero has not answered rank 1" in answer for answer in seen(1, "two"))
    (tmp_path / "local" / "clips" / "v0" / "files" / "index.json").unlink()
    assert "file system that all ranks share" in seen(1, "one")[1]


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"found": 3}', '{"found": [{}]}', '{"error": 3}', "[" * 100_000,
     '{"error": "visible", "message": "HVPError alone is raised"}',
     '{"found": [{"path": "x", "name": "a", "type": "dataset", "version": "v0", "aliases": [], '
     '"metadata": {}, "inputs": [], "created": "", "files": {"../x": {"sha256": "", "size": 1}}'
     "}]}"],
    ids=range(8),
)  # fmt: skip
def test_an_answer_of_anything_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr("hvp.artifacts.rank_store.rank", lambda: 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", tmp_path.name)
    store = RankStore(LocalStore(tmp_path / "local"), tmp_path / "answers", timeout=0.3)
    with pytest.raises(ArtifactError) as waited:
        store.fetch("clips")
    path = Path(re.findall(r"\((/.*\.json)\)", str(waited.value))[0].replace("-1.json", "-2.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    with pytest.raises(HVPError, match=r"\.json|HVPError alone"):
        store.fetch("clips")
