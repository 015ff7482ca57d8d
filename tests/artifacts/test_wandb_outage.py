"""A W&B server that is not there, dies, or comes back: the job goes on, and nothing is lost."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.artifacts.wandb_jobs import await_half_way, end, go_on, start, sync
from tests.wandb_server import WandbServer

# Publishes and logs; waits for a line of input in between, so that the test can kill the server.
JOB = """
    mode = "offline" if "offline" in here.name else "online"
    store, run = auto_store(here, mode), settings(here, mode)
    def publish(text, name, type, **options):
        return store.publish(files(here / "made" / text, text), name=name, type=type,
                             metadata={"settings_digest": text}, **options).reference
    with job({}):
        clips = publish("clips", "clips", T.DATASET)
        run.open().log({"loss": 3.0})
        print("half way", flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        run.open().log({"loss": 2.0})
        weights = publish("weights" + here.name, "weights", T.CHECKPOINT, inputs=[clips],
                          aliases=["best"])
        again = store.find("weights", T.CHECKPOINT, "weights" + here.name).reference
        text = (store.fetch(weights).path / "index.json").read_text()
        later = auto_store(here, mode)  # as in the next stage of a pipeline
        kept = [later.find("clips", T.DATASET, "clips").reference, later.fetch("clips").reference,
                later.fetch(clips).reference, *(a.reference for a in later.lineage(weights))]
    identity = json.loads((here / "wandb" / "run.json").read_text())["id"]
    print(json.dumps({"clips": clips, "weights": weights, "again": again, "text": text,
                      "kept": kept, "id": identity, "seconds": time.monotonic() - began}))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WandbServer]:
    with WandbServer(tmp_path / "server") as running:
        yield running


def losses(server: WandbServer) -> list[float]:
    (run,) = server.runs.values()
    return [json.loads(line)["loss"] for line in run["history"]]


def test_a_server_that_dies_costs_seconds_and_gets_everything_later(
    server: WandbServer, tmp_path: Path
) -> None:
    job = start(server, tmp_path / "job", JOB, TEST_WAIT='{"finish_timeout": 2}')
    await_half_way(job)
    server.stop()
    done, printed = end(go_on(job))
    assert done["clips"] == "emu/hvp/clips:v0"
    assert done["weights"] == done["again"] == "weights:v0"  # kept here
    assert json.loads(done["text"]) == {"text": "weightsjob"}
    assert done["kept"] == [done["clips"]] * 3 + [done["weights"], done["clips"]]
    assert done["seconds"] < 15
    assert printed.count("warning: artifacts stay here for now") == 2  # each store says it once
    assert printed.count("warning: W&B did not take all of run") == 1
    refused = sync(server, tmp_path / "job")
    assert refused.returncode == 1
    assert "does not answer" in refused.stderr
    server.start()
    sent = sync(server, tmp_path / "job")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert losses(server) == [3.0, 2.0]
    weights = server.projects["emu", "hvp"]["collections"]["weights"]
    assert set(weights["aliases"]) == {"latest", "best"}
    (run,) = server.runs.values()
    assert run["name"] == done["id"]
    again = sync(server, tmp_path / "job")  # nothing left
    assert again.returncode == 0
    assert losses(server) == [3.0, 2.0]
    assert not server.missing
    assert not server.unhandled()


def test_an_offline_run_is_sent_and_what_is_lost_is_named(
    server: WandbServer, tmp_path: Path
) -> None:
    directory = tmp_path / "offline"
    first, _ = end(go_on(start(server, directory, JOB)))
    again, _ = end(go_on(start(server, directory, JOB.replace("3.0", "1.0"))))
    assert again["id"] == first["id"]  # resumed
    assert first["weights"] == again["weights"] == "weights:v0"  # published once
    assert server.calls == []
    lost = directory / "local" / "weights" / "v0" / "files" / "index.json"
    kept = lost.read_bytes()
    lost.unlink()
    failed = sync(server, directory)
    assert failed.returncode == 1
    assert "arrived  dataset clips:v0" in failed.stdout
    assert "MISSING  checkpoint weights:v0" in failed.stdout
    assert str(lost) in failed.stdout.replace("\n", "")
    lost.write_bytes(kept)
    sent = sync(server, directory)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert "arrived  checkpoint weights:v0: emu/hvp/weights:v" in sent.stdout
    assert losses(server) == [3.0, 2.0, 1.0, 2.0]
    assert not server.missing
    assert not server.unhandled()


def test_a_killed_job_goes_on_with_its_run(server: WandbServer, tmp_path: Path) -> None:
    job = start(server, tmp_path / "job", JOB)
    await_half_way(job)
    job.kill()
    job.communicate()
    done, _ = end(go_on(start(server, tmp_path / "job", JOB)))
    (run,) = server.runs.values()
    assert run["name"] == done["id"]
    assert losses(server)[-2:] == [3.0, 2.0]
    assert run["state"] == "finished"
    assert not server.missing
    assert not server.unhandled()


def test_an_unreachable_server_costs_seconds(server: WandbServer, tmp_path: Path) -> None:
    server.stop()
    began = time.monotonic()
    done, printed = end(go_on(start(server, tmp_path / "job", JOB)))
    assert done["clips"] == "clips:v0"
    assert done["seconds"] < 10
    assert time.monotonic() - began < 60
    assert printed.count("warning:") == 1
    assert "does not answer" in printed
    assert "python -m hvp.artifacts.sync" in printed


@pytest.mark.parametrize("slow_at", ["start", "half way"])
def test_a_server_that_answers_late_costs_seconds(
    slow_at: str, server: WandbServer, tmp_path: Path
) -> None:
    late = [("graphql", 300.0)]  # it says that it is well, and that is all
    wait = {"finish_timeout": 2, "patience": 3}
    if slow_at == "start":
        server.slow, wait["init_timeout"] = late, 2
    began = time.monotonic()
    job = start(server, tmp_path / "job", JOB, TEST_WAIT=json.dumps(wait))
    before = await_half_way(job)
    server.slow = late
    done, after = end(go_on(job))
    assert time.monotonic() - began < 60
    assert done["seconds"] < 15
    assert done["weights"] == done["again"] == "weights:v0"  # kept here
    if slow_at == "start":
        assert done["clips"] == "clips:v0"
        assert (before + after).count("warning:") == 1
    else:
        assert done["clips"] == "emu/hvp/clips:v0"
        assert after.count("warning: artifacts stay here for now") == 2
        assert after.count("warning: W&B did not take all of run") == 1
