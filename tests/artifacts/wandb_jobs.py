"""Jobs that use W&B, each in a process of its own as on a machine of its own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from hvp.artifacts.auto import AutoStore
from hvp.artifacts.wandb.run import WandbRun
from hvp.artifacts.wandb.store import WandbStore
from tests.wandb_server import WandbServer

WAIT = {"init_timeout": 30, "finish_timeout": 30, "patience": 20}
WAIT |= json.loads(os.environ.get("TEST_WAIT", "{}"))
"""Seconds that a job waits for its server; little where the test takes the server away."""
ROOT = Path(__file__).resolve().parents[2]


def settings(directory: Path, mode: str = "online") -> WandbRun:
    """The run of the job in `directory`, at the server of the environment."""
    return WandbRun(
        mode=mode,
        base_url=os.environ["WANDB_BASE_URL"],
        entity="emu",
        project="hvp",
        group="tests",
        name="test",
        job_type="structure",
        dir=str(directory),
        **WAIT,
    )


def wandb_store(directory: Path) -> WandbStore:
    """A store whose downloads nobody else has."""
    return WandbStore(settings(directory), directory / "fetched")


def auto_store(directory: Path, mode: str = "online") -> AutoStore:
    """The default store, with a local store beside the job."""
    return AutoStore(settings(directory, mode), True, directory / "local", directory / "fetched")


def files(directory: Path, text: str) -> Path:
    """Something to publish."""
    (directory / "clips").mkdir(parents=True, exist_ok=True)
    (directory / "index.json").write_text(json.dumps({"text": text}))
    (directory / "clips" / "a.npz").write_bytes(text.encode() * 1000)
    return directory


def environment(server: WandbServer | None) -> dict[str, str]:
    """That of a job: nothing of W&B but the server."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    # The SDK's pause before another try is two seconds and more; it takes whole seconds only.
    retries = {
        f"WANDB__{kind}_RETRY_WAIT_{end}_SECONDS": "1"
        for kind in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER")
        for end in ("MIN", "MAX")
    }
    return clean | {"OMP_NUM_THREADS": "1"} | retries | (server.environment() if server else {})


def start(
    server: WandbServer | None, directory: Path, code: str, **variables: str
) -> subprocess.Popen[str]:
    """Start a job: `code` with `here`, its directory, and the helpers above."""
    prelude = (
        "from pathlib import Path\nimport sys\nimport json\nimport time\n"
        "from hvp.artifacts.store import ArtifactType as T\nfrom hvp.errors import ArtifactError\n"
        "from hvp.artifacts.wandb.run import job, close_run\n"
        "from tests.artifacts.wandb_jobs import *\n"
        "here = Path(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", prelude + textwrap.dedent(code), str(directory)],
        cwd=ROOT,
        env=environment(server) | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def await_half_way(job: subprocess.Popen[str]) -> str:
    """Wait for a job to print that it is half way; returns what it has printed until then."""
    assert job.stdout is not None
    printed = [""]
    while printed[-1] != "half way\n":
        assert job.poll() is None, job.communicate()
        printed.append(job.stdout.readline())
    return "".join(printed)


def go_on(job: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Give a job the line of input that it waits for, or will."""
    assert job.stdin is not None
    job.stdin.write("\n")
    job.stdin.flush()
    return job


def end(job: subprocess.Popen[str]) -> tuple[Any, str]:
    """What the job printed last, as JSON, and everything it printed."""
    printed, errors = job.communicate(timeout=120)
    assert job.returncode == 0, printed[-1500:] + errors[-3000:]
    return json.loads(printed.strip().splitlines()[-1]), printed + errors


def sync(server: WandbServer, directory: Path) -> subprocess.CompletedProcess[str]:
    """`python -m hvp.artifacts.sync` of a job's directory."""
    return subprocess.run(
        [sys.executable, "-m", "hvp.artifacts.sync", str(directory)],
        cwd=ROOT,
        env=environment(server),
        capture_output=True,
        text=True,
        timeout=120,
    )
