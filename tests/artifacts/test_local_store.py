"""Versions, aliases, lineage and digests of the local store, within one process."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from hvp.artifacts import local
from hvp.artifacts.local import LocalStore
from hvp.artifacts.store import ArtifactStore, ArtifactType
from hvp.errors import ArtifactError
from hvp.files import settings_digest


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return fill(tmp_path / "source", "first")


def fill(directory: Path, text: str) -> Path:
    (directory / "deep").mkdir(parents=True, exist_ok=True)
    (directory / "index.json").write_text(json.dumps({"text": text}))
    (directory / "deep" / "data.bin").write_bytes(text.encode() * 1000)
    return directory


def publish(store: ArtifactStore, source: Path, name: str = "set", digest: str = "s", **options):
    options = {"type": ArtifactType.PREDICTIONS, **options}
    return store.publish(source, name=name, metadata={"settings_digest": digest}, **options)


def test_fetch_gives_exactly_the_published_files(store, source):
    artifact = publish(store, source)
    fetched = store.fetch("set:v0", ArtifactType.PREDICTIONS)
    assert fetched == artifact
    assert fetched.reference == "set:v0"
    assert fetched.aliases == ("latest",)
    assert sorted(fetched.files) == ["deep/data.bin", "index.json"]
    for relative in fetched.files:
        assert (fetched.path / relative).read_bytes() == (source / relative).read_bytes()


def test_the_store_keeps_a_copy(store, source):
    publish(store, source)
    (source / "deep" / "data.bin").write_bytes(b"changed later")
    assert (store.fetch("set").path / "deep" / "data.bin").read_bytes() == b"first" * 1000


def test_versions_count_up_past_nine_and_latest_is_the_highest(store, source):
    for number in range(12):
        assert publish(store, fill(source, str(number))).version == f"v{number}"
    assert store.fetch("set").version == store.fetch("set:latest").version == "v11"
    assert (store.fetch("set:v3").path / "deep" / "data.bin").read_bytes() == b"3" * 1000


def test_aliases_move_to_the_newly_published(store, source):
    publish(store, source, aliases=["best", "paper"])
    publish(store, fill(source, "second"), aliases=["best"])
    publish(store, fill(source, "third"), aliases=["latest"])
    assert store.fetch("set:best").version == "v1"
    assert store.fetch("set:paper").version == "v0"
    assert store.fetch("set").aliases == ("latest",)
    assert store.fetch("set:v0").aliases == ("paper",)


def test_publishing_the_same_again_makes_no_version_but_moves_aliases(store, source):
    first = publish(store, source)
    again = publish(store, source, aliases=["best"])
    assert again.version == first.version
    assert again.created == first.created
    assert again.aliases == ("latest", "best")
    assert sorted(path.name for path in (store.root / "set").glob("v*")) == ["v0"]


@pytest.mark.parametrize(
    "change",
    [{"digest": "other"}, {"type": ArtifactType.VIDEOS}, {"inputs": ["data:v0"]}],
    ids=["settings", "type", "inputs"],
)
def test_the_same_files_made_otherwise_are_a_new_version(store, source, change):
    publish(store, source, name="data")
    publish(store, source)
    assert publish(store, source, **change).version == "v1"


def test_latest_gives_what_was_published_last_even_if_an_older_version_was_the_same(store, source):
    publish(store, source)
    publish(store, fill(source, "second"))
    publish(store, fill(source, "first"))
    assert store.fetch("set").version == "v2"
    assert (store.fetch("set").path / "deep" / "data.bin").read_bytes() == b"first" * 1000


def test_find_returns_the_newest_version_with_these_settings_and_type(store, source):
    assert store.find("set", ArtifactType.PREDICTIONS, "a") is None
    publish(store, source, digest="a")
    publish(store, fill(source, "second"), digest="a")
    publish(store, source, digest="b")
    found = store.find("set", ArtifactType.PREDICTIONS, "a")
    assert found is not None
    assert found.version == "v1"
    assert store.find("set", ArtifactType.VIDEOS, "a") is None
    assert store.find("set", ArtifactType.PREDICTIONS, "c") is None


def test_lineage_lists_every_ancestor_once_nearest_first(store, source):
    publish(store, source, name="data", type=ArtifactType.DATASET)
    checkpoint = ArtifactType.CHECKPOINT
    publish(store, source, name="structure", type=checkpoint, inputs=["data:v0"])
    publish(store, source, name="predicted", inputs=["structure:v0", "data:v0"])
    publish(store, fill(source, "other"), name="data", type=ArtifactType.DATASET)
    lineage = store.lineage("predicted:latest")
    assert [artifact.reference for artifact in lineage] == [
        "predicted:v0", "structure:v0", "data:v0",
    ]  # fmt: skip


def test_inputs_must_exist_and_be_pinned(store, source):
    publish(store, source, name="data")
    with pytest.raises(ArtifactError, match=r"'data:latest'.*now data:v0"):
        publish(store, source, inputs=["data:latest"])
    with pytest.raises(ArtifactError, match=r"no artifact named 'nothing'"):
        publish(store, source, inputs=["nothing:v0"])


def test_metadata_comes_back_as_it_was(store, source):
    metadata = {"settings_digest": "s", "size": (64, 64), "beta": 5e-4, "nested": {"a": None}}
    store.publish(source, name="set", type=ArtifactType.DATASET, metadata=metadata)
    assert store.fetch("set").metadata == {**metadata, "size": [64, 64]}
    with pytest.raises(ArtifactError, match="metadata of artifact 'set': not JSON"):
        store.publish(source, name="set", type=ArtifactType.DATASET, metadata={"a": {1, 2}})


def test_unknown_references_say_what_exists(store, source):
    with pytest.raises(ArtifactError, match="no artifact named 'set', it holds: nothing"):
        store.fetch("set")
    publish(store, source, aliases=["best"])
    publish(store, source, name="other")
    with pytest.raises(ArtifactError, match="no artifact named 'sett', it holds: other, set"):
        store.fetch("sett:v0")
    with pytest.raises(
        ArtifactError, match=r"versions v0 and the aliases best -> v0, latest -> v0"
    ):
        store.fetch("set:v1")
    with pytest.raises(ArtifactError, match="no such version"):
        store.fetch("set:worst")


def test_an_alias_on_a_deleted_version_says_so(store, source):
    publish(store, source, aliases=["best"])
    publish(store, fill(source, "second"))
    (store.root / "set" / "v0").rename(store.root / "elsewhere")
    with pytest.raises(ArtifactError, match="'best' is on the missing v0"):
        store.fetch("set:best")


def test_another_type_than_asked_for_is_an_error(store, source):
    publish(store, source)
    with pytest.raises(ArtifactError, match=r"'set:v0'.*type 'predictions', expected 'checkpoint'"):
        store.fetch("set", ArtifactType.CHECKPOINT)


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b", "a:b", "-x"])
def test_malformed_names_are_refused(store, source, name):
    with pytest.raises(ArtifactError, match="expected letters, digits"):
        publish(store, source, name=name)


def test_malformed_aliases_and_sources_are_refused(store, source, tmp_path):
    with pytest.raises(ArtifactError, match="looks like a version"):
        publish(store, source, aliases=["v7"])
    with pytest.raises(ArtifactError, match="expected a directory"):
        publish(store, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="no files to publish"):
        publish(store, tmp_path / "empty")
    assert not list((store.root / ".staging").iterdir())


def test_a_truncated_file_is_named(store, source):
    path = publish(store, source).path / "deep" / "data.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"deep/data\.bin.*expected 5000 bytes.*found 4999"):
        store.fetch("set")


def test_a_flipped_byte_is_named(store, source):
    path = publish(store, source).path / "deep" / "data.bin"
    content = bytearray(path.read_bytes())
    content[2500] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"deep/data\.bin.*found sha256 .*publish it again"):
        store.fetch("set")


def test_a_missing_file_is_named(store, source):
    (publish(store, source).path / "index.json").unlink()
    with pytest.raises(ArtifactError, match=r"index\.json.*no such file"):
        store.fetch("set")


def test_an_edited_manifest_is_named(store, source):
    manifest = publish(store, source).path.parent / "artifact.json"
    manifest.write_text(
        manifest.read_text().replace('"settings_digest": "s"', '"settings_digest": "t"')
    )
    with pytest.raises(ArtifactError, match=r"artifact\.json: the manifest was changed"):
        store.fetch("set")


def test_an_unreadable_manifest_is_named_and_does_not_stop_publishing(store, source):
    manifest = publish(store, source).path.parent / "artifact.json"
    manifest.write_text("{")
    with pytest.raises(ArtifactError, match=r"v0/artifact\.json: expected readable JSON"):
        store.fetch("set:v0")
    assert publish(store, source).version == "v1"
    store.fetch("set")


def test_a_version_under_another_name_is_noticed(store, source):
    publish(store, source)
    (store.root / "set").rename(store.root / "renamed")
    with pytest.raises(
        ArtifactError, match="expected the manifest of renamed:v0, found that of set:v0"
    ):
        store.fetch("renamed")


def test_find_reads_no_manifest_but_that_of_the_version_it_finds(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    source = tmp_path / "source"
    source.mkdir()
    for number in range(40):
        (source / "data.txt").write_text(str(number))
        store.publish(source, name="set", type=ArtifactType.DATASET,
                      metadata={"settings_digest": f"d{number % 30}"})  # fmt: skip
    home, read, kept = store.root / "set", [], local._read_json
    monkeypatch.setattr(local, "_read_json", lambda p, *a: read.append(p) or kept(p, *a))

    def found(digest: str, type: ArtifactType = ArtifactType.DATASET) -> str | None:
        read.clear()
        artifact = store.find("set", type, digest)
        return None if artifact is None else artifact.version

    def check(manifests: int) -> None:
        assert [found("d3"), found("d20"), found("none"), found("d3", ArtifactType.VIDEOS)] == [
            "v33", "v20", None, None]  # fmt: skip
        found("d20")
        assert len(read) == manifests

    check(1)
    for damage in ("", "[]", '{"v33": 1}', "[" * 100_000):
        (home / "index.json").write_text(damage)
        check(1)  # made again by the first that asked
    (home / "index.json").unlink()
    with monkeypatch.context() as patch:  # a store that only others may write to
        patch.setattr(local, "lock_store", read_only)
        assert found("d3") == "v33"
        assert not (home / "index.json").exists()


def read_only(root: Path) -> NoReturn:
    raise PermissionError(13, "Permission denied", str(root))


def test_the_index_forgets_a_version_whose_number_is_given_again(tmp_path, monkeypatch):
    store = LocalStore(tmp_path / "store")
    source = tmp_path / "source"
    source.mkdir()

    def publish(digest: str) -> str:
        (source / "data.txt").write_text(digest)
        return store.publish(source, name="set", type=ArtifactType.DATASET,
                             metadata={"settings_digest": digest}).version  # fmt: skip

    publish("a")
    assert publish("b") == "v1"
    shutil.rmtree(store.root / "set" / "v1")
    assert store.find("set", ArtifactType.DATASET, "b") is None
    with monkeypatch.context() as patch:  # killed before the new version is in the index
        kept = local.update_index
        patch.setattr(local, "update_index", lambda h, keys: killed() if keys else kept(h, keys))
        with pytest.raises(KeyboardInterrupt):
            publish("c")
    found = store.find("set", ArtifactType.DATASET, "c")
    assert found is not None
    assert found.version == "v1"
    assert store.find("set", ArtifactType.DATASET, "b") is None


def killed() -> NoReturn:
    raise KeyboardInterrupt


def resealed(store, change) -> Path:
    """The manifest of set:v0 changed, with a digest that fits."""
    path = store.root / "set" / "v0" / "artifact.json"
    record = json.loads(path.read_text())
    del record["digest"]
    change(record)
    path.write_text(json.dumps({**record, "digest": settings_digest(record)}))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("files"),
        lambda record: record.update(type="weights"),
        lambda record: record.update(inputs="abc"),
        lambda record: record.update(metadata=[]),
        lambda record: record.update(extra=1),
        lambda record: record["files"]["index.json"].update(size="12"),
        lambda record: record["files"]["index.json"].update(size=True),
        lambda record: record["files"]["index.json"].update(size=10**30),
        lambda record: record["files"]["index.json"].update(sha256="../x"),
        lambda record: record["files"].update({"../index.json": record["files"]["index.json"]}),
        lambda record: record["files"].update({"/etc/passwd": record["files"]["index.json"]}),
        lambda record: record["files"].update({"C:/x": record["files"]["index.json"]}),
        lambda record: record["files"].update({"a\0b": record["files"]["index.json"]}),
    ],
)
def test_a_valid_digest_around_a_wrong_manifest_is_refused(store, source, change):
    publish(store, source)
    path = resealed(store, change)
    with pytest.raises(ArtifactError, match="not a manifest") as caught:
        store.fetch("set:v0")
    assert str(caught.value).startswith(f"{path}: ")


def test_symbolic_links_in_an_artifact_are_refused(store, source, tmp_path):
    path = publish(store, source).path / "index.json"
    path.rename(tmp_path / "index.json")
    path.symlink_to(tmp_path / "index.json")
    with pytest.raises(ArtifactError, match=r"index\.json.*found 'index\.json', a symbolic link"):
        store.fetch("set")


@pytest.mark.timeout(10)
def test_publishing_takes_files_within_its_source_only(store, source, tmp_path):
    (source / "same").symlink_to("index.json")
    assert (publish(store, source).path / "same").is_file()
    assert not (publish(store, source).path / "same").is_symlink()
    (tmp_path / "secret").write_text("secret")
    for make in (
        lambda path: path.symlink_to(tmp_path / "secret"),
        lambda path: path.symlink_to(tmp_path),
        lambda path: path.symlink_to(source),
        lambda path: path.symlink_to("nowhere"),
        os.mkfifo,
    ):
        make(source / "hostile")
        with pytest.raises(ArtifactError, match=r"hostile: .*put a copy there or take it out"):
            publish(store, source)
        (source / "hostile").unlink()
    assert [path.name for path in (store.root / "set").glob("v*")] == ["v0"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EMFILE])
def test_a_disk_in_trouble_is_one_sentence_and_the_next_publishing_goes_on(
    store, source, code, monkeypatch
):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(ArtifactError, match="the same command goes on"):
            publish(store, source)
    assert publish(store, source).version == "v0"
    assert not list((store.root / ".staging").iterdir())


@pytest.mark.parametrize("digest", ["b", "a"])
def test_a_changed_index_of_versions_neither_hides_nor_swaps_results(
    tmp_path: Path, digest: str
) -> None:
    store = LocalStore(tmp_path / "store")
    for text in ("a", "b"):
        source = tmp_path / text
        source.mkdir()
        (source / "file").write_text(text)
        store.publish(
            source, name="set", type=ArtifactType.DATASET, metadata={"settings_digest": text}
        )
    path = store.root / "set" / "index.json"
    content = path.read_text()
    path.write_text(content.replace('"b"', '"c"').replace('"a"', '"b"').replace('"c"', '"a"'))
    assert path.read_text() != content
    found = store.find("set", ArtifactType.DATASET, digest)
    assert found is not None
    assert (found.path / "file").read_text() == digest
