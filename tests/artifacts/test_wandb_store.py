"""The W&B store through the real SDK: one machine publishes, another fetches."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts.wandb_jobs import end, start
from tests.wandb_server import WandbServer

PRODUCE = """
    store = wandb_store(here)
    published = []
    def publish(text, name, type, **options):
        artifact = store.publish(files(here / text, text), name=name, type=type,
                                 metadata={"settings_digest": text, "loss": float("nan")},
                                 **options)
        published.append([artifact.reference, sorted(artifact.aliases)])
        return artifact.reference
    with job({"seed": 1}):
        clips = publish("clips", "clips", T.DATASET)
        weights = publish("weights", "weights", T.CHECKPOINT, inputs=[clips])
        publish("first", "set", T.PREDICTIONS, inputs=[weights, clips], aliases=["best"])
        publish("second", "set", T.PREDICTIONS, inputs=[weights, clips])
        publish("second", "set", T.PREDICTIONS, inputs=[weights, clips], aliases=["paper"])
    print(json.dumps(published))
"""
CONSUME = """
    store = wandb_store(here)
    found = {}
    with job({}):
        for reference in ("set", "set:v0", "emu/hvp/set:best", "set:paper"):
            artifact = store.fetch(reference, T.PREDICTIONS)
            text = json.loads((artifact.path / "index.json").read_text())["text"]
            found[reference] = [artifact.reference, text]
        errors = []
        for reference, type in (("set:v7", None), ("nowhere", None), ("set", T.VIDEOS)):
            try:
                store.fetch(reference, type)
            except ArtifactError as error:
                errors.append(str(error))
        found["errors"] = errors
        found["find"] = [store.find("set", T.PREDICTIONS, d).version for d in ("first", "second")]
        found["none"] = [store.find("set", T.VIDEOS, "first"), store.find("no", T.VIDEOS, "first"),
                         store.find("set", T.PREDICTIONS, "third")]
        found["lineage"] = [a.reference for a in store.lineage("set:v0")]
        path = store.fetch("set:v0").path / "index.json"
        path.chmod(0o644)
        path.write_text("damaged here")
        found["repaired"] = store.fetch("set:v0").path.joinpath("index.json").read_text()
    print(json.dumps(found))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WandbServer]:
    with WandbServer(tmp_path / "server") as running:
        yield running


def test_two_machines_hand_over_artifacts_though_the_server_fails_once_at_every_step(
    server: WandbServer, tmp_path: Path
) -> None:
    steps = ["UpsertBucket$", "CreateArtifact$", "CreateArtifactManifest$", "CreateArtifactFiles$",
             "PUT /storage/artifact", "CommitArtifact", "file_stream"]  # fmt: skip
    server.fail_next = [(step, 503) for step in steps]
    published, printed = end(start(server, tmp_path / "one", PRODUCE))
    assert published == [
        ["emu/hvp/clips:v0", ["latest"]],
        ["emu/hvp/weights:v0", ["latest"]],
        ["emu/hvp/set:v0", ["best", "latest"]],
        ["emu/hvp/set:v1", ["latest"]],
        ["emu/hvp/set:v1", ["latest", "paper"]],
    ]
    assert "wandb:" not in printed
    assert server.fail_next == []
    server.fail_next = [("GET /storage/artifact", 503), ("UseArtifact", 503)]
    before = len(server.calls)
    found, printed = end(start(server, tmp_path / "two", CONSUME))
    assert server.fail_next == []
    assert found["set"] == found["set:paper"] == ["emu/hvp/set:v1", "second"]
    assert found["set:v0"] == found["emu/hvp/set:best"] == ["emu/hvp/set:v0", "first"]
    assert found["find"] == ["v0", "v1"]
    assert found["none"] == [None, None, None]
    assert found["lineage"] == ["emu/hvp/set:v0", "emu/hvp/weights:v0", "emu/hvp/clips:v0"]
    assert json.loads(found["repaired"]) == {"text": "first"}
    missing, nowhere, other_type = found["errors"]
    assert "emu/hvp/set:v7" in missing
    assert "emu/hvp/nowhere:latest" in nowhere
    assert "'predictions'" in other_type
    moved = [c for c in server.calls[before:] if c["op"] == "REST GET storage"]
    assert sum(c["bytes"] for c in moved) > 11_000  # the files really crossed the wire
    one, two = server.runs.values()
    names = {i: a["collection"]["name"] for i, a in server.artifacts.items()}
    assert [names[i] for i in dict.fromkeys(one["outputs"])] == ["clips", "weights", "set", "set"]
    assert one["inputs"] == []  # it made them itself
    assert {names[i] for i in two["inputs"]} == {"set"}
    assert json.loads(one["config"])["seed"]["value"] == 1
    assert one["state"] == two["state"] == "finished"
    assert not server.missing
    assert not server.unhandled()


def test_find_asks_page_by_page_and_reads_the_manifest_it_finds_alone(
    server: WandbServer, tmp_path: Path
) -> None:
    publish = """
        with job({}):
            for text in ("a", "b", "c", "d", "e"):
                wandb_store(here).publish(files(here / text, text), name="set", type=T.DATASET,
                                          metadata={"settings_digest": text})
        print("null")
    """
    end(start(server, tmp_path / "one", publish))
    find = """
        import hvp.artifacts.wandb.store as module
        module._PAGE = 2
        found = wandb_store(here).find("set", T.DATASET, sys.stdin.readline().strip())
        print(json.dumps(found and found.version))
    """
    asked = {}
    for digest, version in (("e", "v4"), ("b", "v1"), ("none", None)):
        before = len(server.calls)
        process = start(server, tmp_path / f"find-{digest}", find)
        assert process.stdin is not None
        process.stdin.write(f"{digest}\n")
        process.stdin.flush()
        assert end(process)[0] == version
        operations = [call["op"] for call in server.calls[before:]]
        asked[digest] = [sum(name in op for op in operations)
                         for name in ("ProjectArtifacts", "GET storage")]  # fmt: skip
    assert asked == {"e": [1, 1], "b": [2, 1], "none": [3, 0]}
