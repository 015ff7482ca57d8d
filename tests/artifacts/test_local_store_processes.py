"""The local store under several processes at once, and under processes that die."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import ArtifactType

ROUNDS = 15

PUBLISHER = """
import sys
from pathlib import Path
from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import ArtifactType

root, source, who, rounds, distinct = *sys.argv[1:4], int(sys.argv[4]), sys.argv[5] == "distinct"
store = LocalStore(Path(root))
print("ready", flush=True)
sys.stdin.readline()
for number in range(rounds):
    text = f"{who} {number}" if distinct else "the same"
    (Path(source) / "data.txt").write_text(text * 1000)
    artifact = store.publish(
        Path(source), name="set", type=ArtifactType.DATASET, metadata={}, aliases=[who]
    )
    print(artifact.version, flush=True)
"""

# Publishes `source`, but stops for good right before the given function of the store's module.
STOPS_BEFORE = """
import sys, time
from pathlib import Path
import hvp.artifacts.local as local
from hvp.artifacts.store import ArtifactType

root, source, point = sys.argv[1:]

def stop(*_):
    print("stopped", flush=True)
    time.sleep(600)

if point == "alias":
    local.LocalStore._move_aliases = stop
elif point == "second file":
    import hvp.artifacts.staging as staging
    copy = staging._copy
    staging._copy = lambda a, b: stop() if a.name == "b.bin" else copy(a, b)
else:
    setattr(local, point, stop)
local.LocalStore(Path(root)).publish(
    Path(source), name="set", type=ArtifactType.DATASET, metadata={}, aliases=["best"]
)
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "data.txt").write_text("published by the test")
    return directory


def publish(root: Path, source: Path, **options):
    store = LocalStore(root)
    return store.publish(source, name="set", type=ArtifactType.DATASET, metadata={}, **options)


def race(tmp_path: Path, content: str) -> dict[str, list[str]]:
    """Two processes publish ROUNDS times each, as fast as they can; the versions they got."""
    processes = {}
    for who in ("one", "two"):
        (tmp_path / who).mkdir()
        processes[who] = start(PUBLISHER, tmp_path / "store", tmp_path / who, who, ROUNDS, content)
    for process in processes.values():
        assert process.stdout.readline() == "ready\n"
    for process in processes.values():
        process.stdin.write("go\n")
        process.stdin.flush()
    versions = {who: process.communicate()[0].split() for who, process in processes.items()}
    assert all(process.returncode == 0 for process in processes.values())
    return versions


def test_two_publishers_at_once_never_share_or_lose_a_version(tmp_path):
    versions = race(tmp_path, "distinct")
    everything = versions["one"] + versions["two"]
    assert sorted(everything) == sorted(f"v{number}" for number in range(2 * ROUNDS))
    store = LocalStore(tmp_path / "store")
    for who, published in versions.items():
        assert [int(version[1:]) for version in published] == sorted(
            int(version[1:]) for version in published
        )
        for number, version in enumerate(published):
            content = (store.fetch(f"set:{version}").path / "data.txt").read_text()
            assert content == f"{who} {number}" * 1000
        assert store.fetch(f"set:{who}").version == published[-1]
    assert store.fetch("set").version == f"v{2 * ROUNDS - 1}"


def test_two_publishers_of_the_same_content_share_one_version(tmp_path):
    versions = race(tmp_path, "same")
    assert set(versions["one"] + versions["two"]) == {"v0"}
    assert LocalStore(tmp_path / "store").fetch("set").aliases == ("latest", "one", "two")


def test_a_publisher_killed_while_copying_leaves_nothing_behind(tmp_path, source):
    root = tmp_path / "store"
    publish(root, source)
    half = tmp_path / "half"
    half.mkdir()
    (half / "a.txt").write_text("copied whole")
    (half / "b.bin").write_bytes(b"x" * (1 << 20))
    publisher = start(STOPS_BEFORE, root, half, "second file")
    assert publisher.stdout.readline() == "stopped\n"
    staged = list((root / ".staging").rglob("a.txt"))
    kill(publisher)
    assert staged[0].exists()
    assert [path.name for path in (root / "set").glob("v*")] == ["v0"]
    assert LocalStore(root).fetch("set").version == "v0"
    (source / "data.txt").write_text("newer")
    assert publish(root, source).version == "v1"
    assert not list((root / ".staging").iterdir())


@pytest.mark.parametrize("point", ["copy_tree", "write_json", "fsync_tree"])
def test_a_publisher_killed_before_its_rename_leaves_the_store_as_it_was(tmp_path, source, point):
    root = tmp_path / "store"
    publisher = start(STOPS_BEFORE, root, source, point)
    assert publisher.stdout.readline() == "stopped\n"
    kill(publisher)
    assert not (root / "set").exists()
    assert list((root / ".staging").iterdir())
    assert publish(root, source).version == "v0"
    assert LocalStore(root).fetch("set").version == "v0"
    assert not list((root / ".staging").iterdir())


def test_a_publisher_killed_after_its_rename_has_published(tmp_path, source):
    root = tmp_path / "store"
    publisher = start(STOPS_BEFORE, root, source, "alias")
    assert publisher.stdout.readline() == "stopped\n"
    kill(publisher)
    assert LocalStore(root).fetch("set").aliases == ("latest",)
    assert publish(root, source, aliases=["best"]).version == "v0"
    assert LocalStore(root).fetch("set:best").version == "v0"
    assert not list((root / ".staging").iterdir())


def test_a_living_publishers_files_are_left_alone(tmp_path, source):
    root = tmp_path / "store"
    publisher = start(STOPS_BEFORE, root, source, "copy_tree")
    assert publisher.stdout.readline() == "stopped\n"
    try:
        publish(root, source)
        assert len(list((root / ".staging").iterdir())) == 2  # its directory and its lock
    finally:
        kill(publisher)


def test_latest_is_fetched_while_another_process_publishes(tmp_path, source):
    publish(tmp_path / "store", source)
    process = start(PUBLISHER, tmp_path / "store", source, "other", 40, "distinct")
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()
    store, fetched = LocalStore(tmp_path / "store"), []
    while process.poll() is None:
        fetched.append(int(store.fetch("set:latest").version[1:]))
    process.communicate()
    assert fetched == sorted(fetched)
    assert store.fetch("set").version == "v40"


def test_latest_is_fetched_though_a_version_appears_between_any_two_looks(
    tmp_path, source, monkeypatch
):
    store, publishing = LocalStore(tmp_path / "store"), []
    publish(store.root, source)
    listed = LocalStore._versions

    def list_then_publish(self, name):
        found = listed(self, name)
        if not publishing:
            publishing.append(True)
            (source / "data.txt").write_text(str(len(found)))
            publish(store.root, source, aliases=["best"])
            publishing.clear()
        return found

    monkeypatch.setattr(LocalStore, "_versions", list_then_publish)
    for reference in ("set", "set:latest", "set:v0", "set:best", "set:best"):
        assert store.fetch(reference).name == "set"


def test_unfinished_files_of_a_killed_publisher_are_removed_by_the_next(tmp_path, source):
    home = tmp_path / "store" / "set"
    home.mkdir(parents=True)
    killed = [home / ".aliases.0a1b2c3d.tmp.json", home / ".index.deadbeef.tmp.json"]
    for path in killed:
        path.write_text('{"best": ')
    publish(tmp_path / "store", source)
    assert {path.name for path in home.iterdir()} == {"v0", "index.json"}
